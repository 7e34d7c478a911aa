import csv
import importlib
import io
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from speechlike import HEADER, FakeAsr, FakeEmbedder, FakeTokenizer, write_manifest
from unitoken.errors import AudioError, AudioFileError, ConfigError, MissingDependencyError
from unitoken.evaluate import Original, Roundtrip, TokenizerCodec, evaluate
from unitoken.evaluate.manifest import read_manifest
from unitoken.evaluate.pitch import load_tracker
from unitoken.evaluate.summary import Row, summarise
from unitoken.evaluate.words import Errors


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def report(manifest):
    tokenizer = FakeTokenizer()
    codecs = [Original(), TokenizerCodec(tokenizer), TokenizerCodec(tokenizer, drop_p=True)]
    return evaluate(manifest, codecs, asr=FakeAsr(), speakers=FakeEmbedder())


def test_a_perfect_codec_scores_as_the_original(report):
    original, ours, _ = report.summaries()
    for summary in (original, ours):
        assert summary["clips"] == 3
        assert summary["seconds"] == pytest.approx(3.75)
        assert summary["stoi"] == pytest.approx(1)
        assert summary["estoi"] == pytest.approx(1)
        assert summary["pesq_wb"] == pytest.approx(4.64, abs=0.005)
        assert summary["mel_distance_db"] == 0
        assert summary["f0_correlation"] == pytest.approx(1)
        assert (summary["vuv_error"], summary["gross_pitch_error"]) == (0, 0)
        assert summary["speaker_cosine"] == 1
        assert summary["wer"] == {"all": 0, "librispeech": 0}
        assert summary["self_cer"] == {"all": 0, "librispeech": 0, "other": 0}
    assert original["bitrate_bps"] == pytest.approx(256000)
    assert (original["codebooks"], original["encode_xrt"]) == ({}, None)
    frames = 50 + 40 + 4
    assert ours["bitrate_bps"] == pytest.approx(frames * 10 / 3.75)
    assert ours["global_bits_per_clip"] == 6
    assert ours["encode_xrt"] > 0


def test_a_worse_codec_scores_worse(report):
    _, ours, worse = report.summaries()
    assert worse["mel_distance_db"] > 1.5
    assert worse["wer"] == {"all": 1, "librispeech": 1}  # five errors on four words count four
    assert worse["speaker_cosine"] == pytest.approx(0.6)
    assert worse["bitrate_bps"] == pytest.approx(ours["bitrate_bps"] * 0.6)


def test_codewords_are_counted_over_all_clips(report):
    _, ours, worse = report.summaries()
    counts = [3] * 4 + [2] * 36 + [1] * 10  # tokens count up from 0 in clips of 50, 40 and 4 frames
    share = torch.tensor(counts) / 94
    assert ours["codebooks"]["s"]["perplexity"] == pytest.approx(float((-share * share.log()).sum().exp()))
    assert (ours["codebooks"]["s"]["used"], ours["codebooks"]["s"]["tokens"]) == (50, 94)
    assert ours["codebooks"]["p"] == {"tokens": 94, "codebook_size": 16, "used": 1, "perplexity": 1, "fraction": 1 / 16}
    assert ours["codebooks"]["g"]["used"] == 1
    assert set(worse["codebooks"]) == {"s", "g"}


def test_what_is_left_out_is_counted(report):
    counts = report.summaries()[0]
    assert counts["left_out"] == {
        "stoi": 1,  # 0.15 s
        "estoi": 1,
        "pesq_wb": 1,
        "mel_distance_db": 0,
        "f0_correlation": 1,
        "vuv_error": 0,
        "gross_pitch_error": 1,
        "speaker_cosine": 0,
        "wer": 2,
        "self_cer": 1,
    }
    assert all(counts["measured"][figure] + left == 3 for figure, left in counts["left_out"].items())


def test_the_recogniser_is_asked_once_an_original_and_never_in_arabic(manifest):
    asr = FakeAsr()
    evaluate(manifest, [Original(), TokenizerCodec(FakeTokenizer(), drop_p=True)], metrics=["words"], asr=asr)
    assert asr.languages == ["en", "en", "de", "de"]


def test_words_in_a_language_unknown_to_the_recogniser_are_left_out(manifest, monkeypatch):
    asr = FakeAsr()
    monkeypatch.setattr(asr, "knows", lambda language: language == "de")
    report = evaluate(manifest, [Original()], metrics=["words"], asr=asr)
    assert asr.languages == ["de"]
    assert [row.errors["self_cer"] is None for row in report.rows] == [True, True, False]


def test_markdown(report):
    lines = report.markdown().splitlines()
    assert lines[0] == "# Evaluation"
    assert lines[2].startswith("3 clips, 4 s, of librispeech, other, words. Recogniser: fake-asr. unitoken ")
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert ", ".join(table[0]) == (
        "codec, b/s, + bits a clip, STOI, ESTOI, PESQ-WB, mel dB, F0 corr, V/UV err, F0 gross err, speaker cos, WER librispeech, WER, self-CER, "
        "S used, S perplexity, S of codebook, P used, P perplexity, P of codebook, encode xRT, decode xRT"
    )
    assert " ".join(table[2]) == "original 256000 - 1.000 1.000 4.64 0.00 1.000 0.000 0.000 1.000 0.000 0.000 0.000 - - - - - - - -"
    assert table[3][:4] == ["unitoken S+G+P", "251", "6", "1.000"]
    assert table[3][17:20] == ["1", "1", "0.062"]
    assert table[5] == ["codec", "WER librispeech", "self-CER librispeech", "self-CER other"]
    assert ["stoi", "all", "less than about 0.4 s of speech", "1", "2"] in table
    assert ["wer", "all", "no transcript, or a language that is not transcribed", "2", "1"] in table
    assert all(len(row) == len(table[0]) for row in table[:5])


def test_columns_nobody_fills_are_left_out(manifest):
    text = evaluate(manifest, [Original()], metrics=["codebooks"]).markdown()
    assert "| codec | b/s |\n" in text
    assert "Every figure rests on every clip." in text
    assert "Words by source" not in text


def test_json_and_save(report, tmp_path):
    report.save(tmp_path / "new")
    data = json.loads((tmp_path / "new" / "report.json").read_text(encoding="utf-8"))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["clips.csv", "report.json", "report.md"]
    assert (tmp_path / "new" / "report.md").read_text(encoding="utf-8") == report.markdown()
    assert data["context"]["metrics"] == ["signal", "speakers", "pitch", "words", "codebooks"]
    assert [summary["codec"] for summary in data["codecs"]] == report.codecs
    assert len(data["rows"]) == 9
    row = data["rows"][0]
    assert (row["clip"], row["source"], row["text"]) == ("a.wav", "librispeech", "The cat said no.")
    assert row["errors"] == {"wer": {"errors": 0, "length": 4}, "self_cer": {"errors": 0, "length": 15}}


def test_csv(report):
    table = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert [(row["codec"], row["clip"]) for row in table[:4]] == [*((name, "a.wav") for name in report.codecs), ("original", "b.wav")]
    assert (float(table[0]["stoi"]), table[6]["stoi"]) == (pytest.approx(1), "")
    assert (table[2]["wer_errors"], table[2]["wer_length"], table[3]["wer_length"]) == ("4", "4", "")
    assert table[2]["text"] == "The cat no no no no no no."


def test_what_cannot_be_had_is_left_out_and_named(manifest, monkeypatch):
    def missing(module, feature):
        if module in {"pesq", "swift_f0", "faster_whisper"}:
            raise MissingDependencyError(f"{feature} needs packages")
        return importlib.import_module(module)

    for place in ("measures", "signal", "pitch", "words"):
        monkeypatch.setattr(f"unitoken.evaluate.{place}.require", missing)
    load_tracker.cache_clear()
    report = evaluate(manifest, [Original()], asr="base", limit=1)
    assert report.context["metrics"] == ["signal", "codebooks"]
    assert set(report.context["absent"]) == {"pesq_wb", "mos", "speakers", "pitch", "words"}
    lines = report.markdown().splitlines()
    assert "- pesq_wb: PESQ needs packages" in lines
    assert "- words: transcription needs packages" in lines
    assert "- mos: needs a network; give dnsmos=Dnsmos(path of model_v8.onnx)" in lines
    assert report.summaries()[0]["stoi"] == pytest.approx(1)
    for metric in ("signal", "pitch", "words"):
        with pytest.raises(MissingDependencyError):
            evaluate(manifest, [Original()], metrics=[metric], asr="base", limit=1)


def test_a_run_goes_on_where_it_was_broken_off(manifest, report, tmp_path):
    class Stopping(TokenizerCodec):
        clips: ClassVar[list] = []

        def roundtrip(self, waveform, clip=""):
            self.clips.append(clip)
            if self.clips.count("c.wav") == 1:
                raise KeyboardInterrupt
            return super().roundtrip(waveform, clip)

    journal = tmp_path / "new" / "clips.jsonl"
    codecs = [Original(), Stopping(FakeTokenizer())]
    given = {"asr": FakeAsr(), "speakers": FakeEmbedder(), "journal": journal}
    with pytest.raises(KeyboardInterrupt):
        evaluate(manifest, codecs, **given)
    with journal.open("a", encoding="utf-8") as file:
        file.write('{"clip": "c.wav", "measu')
    again = evaluate(manifest, codecs, **given)
    assert Stopping.clips == ["a.wav", "a.wav", "b.wav", "c.wav", "c.wav", "c.wav"]  # the first of a process twice
    expected = [row for row in report.rows if row.codec in again.codecs]
    assert len(again.rows) == len(expected) == 6
    for row, other in zip(again.rows, expected, strict=True):
        # How NumPy sums depends on where in memory an array lies: ESTOI of a perfect copy is 1 or 1.0000000000000002.
        assert row.values == {name: value if value is None else pytest.approx(value, rel=1e-9, abs=1e-9) for name, value in other.values.items()}
        unlike = {"encode_seconds": 0, "decode_seconds": 0, "values": {}}
        assert replace(row, **unlike) == replace(other, **unlike)
    assert again.usage == {name: report.usage[name] for name in again.codecs}
    assert len(journal.read_text(encoding="utf-8").splitlines()) == 4
    with pytest.raises(ConfigError, match="has 3 clips of a run with another absent, asr, metrics; go on with that one"):
        evaluate(manifest, codecs, speakers=FakeEmbedder(), journal=journal)
    journal.write_text("words\n")
    with pytest.raises(ConfigError, match="is no journal of an evaluation"):
        evaluate(manifest, codecs, **given)


def test_a_failing_save_keeps_the_old_report(report, tmp_path):
    report.save(tmp_path)
    old = (tmp_path / "report.json").read_text(encoding="utf-8")
    broken = replace(report, context=report.context | {"clips": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        broken.save(tmp_path)
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips.csv", "report.json", "report.md"]


def test_a_full_disk_leaves_the_old_report_and_no_rubbish(report, tmp_path, monkeypatch):
    report.save(tmp_path)

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr("unitoken.evaluate.summary.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips.csv", "report.json", "report.md"]


def test_default_metrics_follow_what_is_given(manifest):
    assert evaluate(manifest, [Original()], limit=1).context["metrics"] == ["signal", "pitch", "codebooks"]


def test_progress_and_the_uncounted_first_run(manifest):
    calls, seen = [], []
    codec = SimpleNamespace(name="spy", roundtrip=lambda waveform, clip: calls.append(len(waveform)) or Roundtrip(waveform, 1, None, 1.0, 1.0))
    report = evaluate(manifest, [codec], metrics=["codebooks"], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert calls == [32000, 32000, 25600, 2400]
    assert [row.bits for row in report.rows] == [1, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["signals"]}, r"unknown metrics \['signals'\]; there are: signal, mos"),
        ({"metrics": ["words"]}, "'words' needs a recogniser; give asr="),
        ({"metrics": ["mos"]}, "'mos' needs a network; give dnsmos="),
        ({"metrics": ["speakers"]}, "'speakers' needs an embedder"),
        ({"limit": 0}, "limit must be 1 or more, or None for every clip, got 0"),
        ({"codecs": []}, r"one or more codecs of different names, got \[\]"),
        ({"codecs": [Original(), Original()]}, r"of different names, got \['original', 'original'\]"),
    ],
)
def test_settings_that_are_refused(manifest, options, message):
    with pytest.raises(ConfigError, match=message):
        evaluate(manifest, **{"codecs": [Original()]} | options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda waveform: waveform[1:], r"odd returned samples of shape \(31999,\) for a.wav of \(32000,\)"),
        (lambda waveform: waveform / 0, "odd returned samples that are not finite for a.wav"),
    ],
)
def test_a_codec_that_breaks_the_rules(manifest, change, message):
    codec = SimpleNamespace(name="odd", roundtrip=lambda waveform, clip: Roundtrip(change(waveform), 1, None, 1.0, 1.0))
    with pytest.raises(AudioError, match=message):
        evaluate(manifest, [codec], limit=1)


def test_manifest_rows_and_limit(manifest):
    clips = read_manifest(manifest)
    assert [clip.name for clip in clips] == ["a.wav", "b.wav", "c.wav"]
    assert [clip.transcript for clip in clips] == ['"the cat said no', "", ""]
    assert clips[0].path == manifest.parent / "a.wav"
    assert (clips[1].source, clips[1].speaker, clips[1].language) == ("words", "sp1", "ar")
    assert [clip.name for clip in read_manifest(manifest, limit=2)] == ["a.wav", "b.wav"]
    assert len(read_manifest(manifest, limit=99)) == 3


def test_limit_is_even_over_the_rows(tmp_path):
    (tmp_path / "m.tsv").write_text(HEADER + "".join(f"{index}\ts\tp\ten\t1\t\t\n" for index in range(10)), encoding="utf-8")
    assert [clip.name for clip in read_manifest(tmp_path / "m.tsv", limit=4)] == ["0", "2", "5", "7"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\tsource\n", r"lacks the columns \['speaker', 'language', 'seconds', 'transcript'\]"),
        ("", "lacks the columns"),
        (HEADER, "lists no clips"),
        (None, "no manifest at .*m.tsv; expected a TSV file"),
    ],
)
def test_manifests_that_are_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "m.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_manifest(tmp_path / "m.tsv")


def test_jsonl_manifests(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"path": "a.wav", "source": "x", "transcript": "[noise]", "seconds": 1.5}\n\n{"path": "b.wav", "language": "en"}\n')
    first, second = read_manifest(path, language="nl")
    assert (first.path, first.source, first.transcript, first.seconds, first.language) == (tmp_path / "a.wav", "x", "", 1.5, "nl")
    assert (second.name, second.source, second.language) == ("b.wav", "", "en")
    for line in ('{"source": "x"}', "[1]", "{"):
        path.write_text(f'{{"path": "a.wav"}}\n{line}\n')
        with pytest.raises(ConfigError, match=r"m\.jsonl, line 2: expected an object with a path"):
            read_manifest(path)


def test_a_folder_is_a_manifest_too(tmp_path):
    with pytest.raises(ConfigError, match="lists no clips; add audio files"):
        read_manifest(tmp_path)
    (tmp_path / "one").mkdir()
    for name in ("b.wav", "one/a.flac", "notes.txt"):
        (tmp_path / name).touch()
    assert [(clip.name, clip.source, clip.language) for clip in read_manifest(tmp_path, language="de")] == [
        ("b.wav", tmp_path.name, "de"),
        ("one/a.flac", "one", "de"),
    ]


def test_a_clip_listed_twice_is_refused(tmp_path):
    (tmp_path / "m.tsv").write_text(HEADER + "a.wav\ts\tp\ten\t1\t\t\n" * 2, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"lists a\.wav more than once"):
        read_manifest(tmp_path / "m.tsv")


def test_a_missing_clip_is_an_error(tmp_path):
    (tmp_path / "m.tsv").write_text(HEADER + "gone.wav\ts\tp\ten\t1\t\t\n", encoding="utf-8")
    with pytest.raises(AudioFileError, match=r"gone\.wav"):
        evaluate(tmp_path / "m.tsv", [Original()])


def _row(source, seconds, **fields):
    return Row(
        "c",
        "x",
        source,
        "en",
        seconds,
        **{"bits": 0, "global_bits": 0, "encode_seconds": 0, "decode_seconds": 0, "original_text": None, "text": None} | fields,
    )


def test_sums_come_before_divisions():
    rows = [
        _row("a", 1.0, bits=100, encode_seconds=0.5, values={"stoi": 1.0}, errors={"wer": Errors(1, 1)}),
        _row("b", 3.0, bits=900, encode_seconds=0.5, values={"stoi": None}, errors={"wer": Errors(0, 9)}),
        _row("b", 0.0, values={"stoi": 0.5}, errors={"wer": None}),
    ]
    summary = summarise("c", rows, {})
    assert summary["bitrate_bps"] == 250
    assert summary["encode_xrt"] == 4
    assert summary["decode_xrt"] is None
    assert summary["stoi"] == 0.75
    assert summary["wer"] == {"all": 0.1, "a": 1, "b": 0}
    assert summary["self_cer"] == {}
    assert (summary["measured"], summary["left_out"]) == ({"stoi": 2, "wer": 2}, {"stoi": 1, "wer": 1})

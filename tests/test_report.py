import base64
import io
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import soundfile
import torch

from speechlike import FakeTokenizer, speech
from unitoken.audio import save_audio
from unitoken.errors import ConfigError, MissingDependencyError
from unitoken.evaluate import Original, Report, Roundtrip, TokenizerCodec, evaluate
from unitoken.evaluate.summary import Row
from unitoken.evaluate.words import Errors
from unitoken.report import box_plots, pick_clips, record_players, save_page

LANGUAGES = ["en", "de", ""]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rows = ["path\tsource\tspeaker\tlanguage\tseconds\ttranscript"]
    for index, language in enumerate(LANGUAGES):
        save_audio(folder / f"{index}.wav", speech(0.8, index), 16000)
        rows.append(f"{index}.wav\tsource {index % 2}\tx\t{language}\t0.8\t")
    (folder / "m.tsv").write_text("\n".join(rows) + "\n")
    return folder / "m.tsv"


class Noisy:
    """A codec that is the worse the later the clip."""

    name = "noisy <b>"

    def roundtrip(self, waveform, clip=""):
        noise = torch.randn(len(waveform), generator=torch.Generator().manual_seed(0))
        return Roundtrip(waveform + 0.02 * int(clip[0]) * noise, 100, None, 1.0, 1.0)


@pytest.fixture(scope="module")
def report(manifest):
    return evaluate(manifest, [Original(), Noisy(), TokenizerCodec(FakeTokenizer(), drop_p=True)], metrics=["signal", "codebooks"])


def row(clip, **values):
    return Row("c", clip, "s", "en", 1.0, 0, 0, 0.0, 0.0, values, {}, None, None)


def test_best_median_and_worst(report):
    figure, picked = pick_clips(report, "noisy <b>")
    assert figure == "stoi"
    assert {rank: row.clip for rank, row in picked.items()} == {"best": "0.wav", "median": "1.wav", "worst": "2.wav"}
    with pytest.raises(ConfigError, match="no codec 'x'; there are: original, noisy"):
        pick_clips(report, "x")


@pytest.mark.parametrize(
    ("rows", "figure", "clips"),
    [
        ([row("a", mel_distance_db=3.0), row("b", mel_distance_db=1.0), row("c", mel_distance_db=None)], "mel_distance_db", ["b", "a", "a"]),
        ([row("a", stoi=None, p808=3.0), row("b", stoi=None, p808=1.0), row("c", p808=4.0)], "p808", ["c", "a", "b"]),
        ([row("a", stoi=None)], "", []),
    ],
)
def test_clips_are_ordered_by_what_was_measured(rows, figure, clips):
    found, picked = pick_clips(Report({}, ["c"], rows, {}), "c")
    assert (found, [row.clip for row in picked.values()]) == (figure, clips)


def test_players_play_what_the_codec_made(report, manifest):
    best, _, worst, *others = record_players(report, manifest, [Noisy(), TokenizerCodec(FakeTokenizer(), drop_p=True)])
    assert (best.codec, best.rank, best.figure, len(others)) == ("noisy <b>", "best", "stoi", 3)

    def level(address):
        kind, data = address.split(",")
        assert kind == "data:audio/ogg;base64"
        wave, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
        assert (rate, len(wave)) == (16000, 12800)
        return (wave[-800:] ** 2).mean() ** 0.5  # a pause

    assert level(worst.original) < 0.005
    assert level(worst.decoded) == pytest.approx(0.04, rel=0.3)
    assert level(best.decoded) < 0.005


def test_a_picture_for_each_figure(report):
    pictures = box_plots(report)
    assert list(pictures) == ["STOI", "ESTOI", "PESQ-WB", "mel distance, dB"]
    text = pictures["STOI"]
    for words in ("STOI by source", "STOI by language", "source 0", "source 1", "unknown", "noisy &lt;b&gt;", "unitoken S+G"):
        assert words in text
    assert ">original<" not in text
    assert text == box_plots(report)["STOI"]


def test_boxes_of_words_are_rates_of_clips():
    rows = [replace(row(name), errors={"wer": errors}) for name, errors in (("a", Errors(1, 4)), ("b", None))]
    assert list(box_plots(Report({}, ["c"], rows, {}))) == ["WER"]


class Checker(HTMLParser):
    """Counts elements and sees that they are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in {"meta", "br"} and not self.inside_svg():
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.inside_svg() or tag == "svg":
            assert self.open.pop() == tag

    def inside_svg(self):
        return "svg" in self.open


def test_the_page_stands_alone(report, manifest, tmp_path):
    players = record_players(report, manifest, [Noisy()])
    save_page(report, tmp_path / "r.html", players)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert (checker.seen.count("audio"), checker.seen.count("figure")) == (6, 4)
    assert "noisy &lt;b&gt;" in text
    assert "<b>" not in text
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "3 clips, 2 s, of source 0, source 1." in text
    assert "mos: needs a network" not in text  # nobody asked for it
    save_page(report, tmp_path / "r.html")
    assert "<audio" not in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_what_was_not_measured_is_named(manifest, tmp_path):
    save_page(evaluate(manifest, [Noisy()], limit=1), tmp_path / "r.html")
    assert "<li>mos: needs a network" in (tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_without_the_extra(report, tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"an HTML report needs packages .*\[report\]"):
        save_page(report, tmp_path / "r.html")
    assert not list(tmp_path.iterdir())

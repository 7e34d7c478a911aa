"""What is done with a corpus that is there: checked, counted, joined, filtered, compared, written out; and estimated before it is."""

import dataclasses
import json
import re
import shutil
import struct
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import models
from corpora import encode, manifest, tiny
from unitoken import corpus, lm, load_audio, save_audio
from unitoken.corpus import shard as shards
from unitoken.corpus.check import verify_corpus
from unitoken.corpus.estimate import estimate
from unitoken.corpus.job import write_manifest
from unitoken.corpus.out import decode_corpus, write_jsonl, write_megatron, write_webdataset
from unitoken.corpus.sets import diff_corpora, filter_corpus, merge_corpora
from unitoken.corpus.statistics import statistics_of
from unitoken.corpus.store import Folder
from unitoken.errors import CorpusError, TokenError
from unitoken.report.corpus_page import save_corpus_page
from unitoken.tokens import TokenBundle


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def place(settings, tmp_path_factory):
    """A corpus of eleven utterances in three shards."""
    folder = tmp_path_factory.mktemp("corpus")
    return encode(folder / "tokens", manifest(folder / "audio"), settings)


@pytest.fixture
def copy(place, tmp_path):
    """A corpus that a test may damage."""
    return shutil.copytree(place, tmp_path / "copy")


def rewrite(folder, name, change, **about):
    """Write a shard again with other rows and, unless given, a hash that fits them."""
    info, table = shards.read_info(Folder(folder), name), change(shards.read_table(Folder(folder), name))
    info = dataclasses.replace(info, **{"content": shards.content_of(table), "rows": len(table)} | about)
    (folder / name).write_bytes(shards.to_bytes(table, info))


def with_column(table, name, values):
    return table.set_column(table.column_names.index(name), name, pa.array(values, table.schema.field(name).type))


def test_a_whole_corpus_has_no_problem(place, settings):
    found = verify_corpus(place, sample=6, settings=settings)
    assert (found.shards, found.rows, found.failures, found.again, found.problems) == (3, 11, 0, 6, [])
    assert verify_corpus(place, sample=100, settings=settings).again == 11


def first_token_changed(table):
    rows = table["s"].to_pylist()
    rows[3][0] = (rows[3][0] + 1) % 64
    return with_column(table, "s", rows)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda copy: (copy / "part-00001.parquet").unlink(), "1 shards are missing, part-00001.parquet for one"),
        (lambda copy: (copy / "_SUCCESS").unlink(), "_SUCCESS is missing"),
        (lambda copy: shutil.copy(copy / "part-00002.parquet", copy / "part-00003.parquet"), "1 shards are in no plan"),
        (
            lambda copy: shutil.copy(copy / "part-00000.parquet", copy / "part-00001.parquet"),
            "'u0' is in part-00000.parquet and in part-00001.parquet",
        ),
        (lambda copy: shutil.copy(copy / "part-00000.parquet", copy / "part-00001.parquet"), "part-00001.parquet does not hold the rows of the plan"),
        (lambda copy: (copy / "part-00001.parquet").write_bytes(b"PAR1"), "part-00001.parquet in .* is no shard, or damaged"),
        (lambda copy: rewrite(copy, "part-00001.parquet", first_token_changed, content="00"), "part-00001.parquet is damaged"),
        (lambda copy: rewrite(copy, "part-00001.parquet", first_token_changed), "'u7' has other tokens than its audio gives"),
        (lambda copy: rewrite(copy, "part-00001.parquet", lambda table: table.slice(1)), "part-00001.parquet does not hold the rows of the plan"),
        (
            lambda copy: rewrite(copy, "part-00001.parquet", lambda table: with_column(table, "s", [[60000], *table["s"].to_pylist()[1:]])),
            "'u4' in part-00001.parquet: ",
        ),
        (
            lambda copy: rewrite(copy, "part-00001.parquet", lambda table: with_column(table, "source_hash", [b"other"] * 4)),
            "the audio of 'u4' is not",
        ),
    ],
)
def test_damage_is_found(damage, problem, copy, settings):
    damage(copy)
    problems = verify_corpus(copy, sample=100, settings=settings).problems
    assert any(re.search(problem, one) for one in problems), problems


def test_without_a_plan_shards_are_checked_all_the_same(place, settings, tmp_path):
    filter_corpus(place, tmp_path / "some", "speaker = 1")
    found = verify_corpus(tmp_path / "some", settings=settings)
    assert (found.rows, found.again, found.problems) == (5, 0, [])


def test_statistics_count_every_token(place):
    tokens = corpus.open(place)
    found = statistics_of(tokens)
    assert (found.utterances, found.hours) == (11, pytest.approx(tokens.seconds / 3600))
    assert found.quantiles[50] == pytest.approx(5 * 800 / 16000)
    for name, books in (("g", tokens.info.num_g), ("s", 1), ("p", 1)):
        own = torch.cat([getattr(utterance.bundle, name).reshape(-1, books) for utterance in tokens])
        stream = found.streams[name]
        assert stream.tokens == own.numel()
        assert np.array_equal(stream.counts, np.stack([np.bincount(own[:, book], minlength=stream.codebook_size) for book in range(books)]))
        shares = [np.unique(own[:, book], return_counts=True)[1] / len(own) for book in range(books)]
        assert stream.entropy == pytest.approx(np.mean([-(share * np.log2(share)).sum() for share in shares]))
        assert stream.used == np.mean([len(share) for share in shares])
    assert found.groups["language"] == {
        language: (pytest.approx(sum(range(first, 11, 3)) * 800 / 16000 / 3600), len(range(first, 11, 3)))
        for first, language in ((1, "en"), (2, "fr"), (0, "de"))
    }
    assert list(found.groups) == ["language", "speaker"]
    assert list(found.groups["language"])[-1] == min(found.groups["language"], key=lambda name: found.groups["language"][name][0])


def test_a_page_shows_the_statistics(place, tmp_path):
    tokens = corpus.open(place)
    save_corpus_page(tokens, statistics_of(tokens), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert "11 utterances" in page
    assert "Hours by language" in page
    save_corpus_page(tokens, statistics_of(tokens), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_parts_of_a_corpus_join_to_the_whole(place, settings, tmp_path):
    for index in range(3):
        filter_corpus(place, tmp_path / str(index), f"samples % 2400 = {800 * index}", rows=2)
    whole = merge_corpora([tmp_path / "0", tmp_path / "1", tmp_path / "2"], tmp_path / "whole", rows=5)
    tokens, joined = corpus.open(place), corpus.open(tmp_path / "whole")
    assert joined.ids == [f"u{index}" for first in range(3) for index in range(first, 11, 3)]
    assert [len(pq.read_table(path)) for path in sorted((tmp_path / "whole").glob("part-*"))] == [5, 5, 1]
    assert (whole.rows, whole.samples) == (11, sum(tokens.column("samples").to_pylist()))
    assert all(dict(utterance) == dict(tokens[utterance.id]) for utterance in joined)
    assert diff_corpora(tokens, joined).same == 11
    assert not verify_corpus(tmp_path / "whole").problems


def test_what_cannot_be_joined_or_filtered_is_refused_and_nothing_written(place, tmp_path):
    other = tiny(tmp_path / "model", seed=1)
    encode(tmp_path / "other", manifest(tmp_path / "audio", 3), other)
    for call, text in (
        (lambda: merge_corpora([place, place], tmp_path / "new"), "11 ids are in several of the corpora, 'u0' for one"),
        (lambda: filter_corpus(place, tmp_path / "new", "seconds <"), "cannot read the condition 'seconds <'"),
        (lambda: filter_corpus(place, tmp_path / "new", "accent = 1"), "columns are id, g, s, p"),
        (lambda: filter_corpus(place, tmp_path / "new", "seconds > 1000"), "no utterance is left"),
        (lambda: filter_corpus(place, place, "seconds < 1000"), r"has manifest.json already|has part-00000.parquet already"),
        (lambda: merge_corpora([tmp_path / "nowhere"], tmp_path / "new"), "no corpus in"),
    ):
        with pytest.raises(CorpusError, match=text):
            call()
        assert not (tmp_path / "new").exists()
    rewrite(tmp_path / "other", "part-00000.parquet", lambda table: with_column(table, "id", ["a", "b", "c"]))
    with pytest.raises(CorpusError, match="the corpora are of tiny on cpu/float32/torch and of tiny"):
        merge_corpora([place, tmp_path / "other"], tmp_path / "new")


def test_a_difference_is_counted_where_it_is(place, copy):
    rewrite(copy, "part-00001.parquet", first_token_changed)
    rewrite(copy, "part-00000.parquet", lambda table: with_column(table, "source_hash", [b"other", *table["source_hash"].to_pylist()[1:]]))
    rewrite(copy, "part-00002.parquet", lambda table: with_column(table, "id", ["new", "u9", "u10"]))
    found = diff_corpora(corpus.open(place), corpus.open(copy))
    assert (found.same, found.audio, found.changed, found.only_first, found.only_second) == (8, ["u0"], ["u7"], ["u8"], ["new"])
    frames = sum(len(corpus.open(place)[f"u{index}"].bundle.s) for index in (1, 2, 3, 4, 5, 6, 7, 9, 10))
    assert (found.differing["s"], found.compared["s"], found.differing["p"], found.compared["p"]) == (1, frames, 0, frames)


def test_a_corpus_decodes_to_what_its_bundles_do(place, settings, tmp_path):
    tok, tokens = settings.load(), corpus.open(place)
    written = list(decode_corpus(tokens[8:10], tok, tmp_path, suffix=".wav"))
    assert [path.name for path in written] == ["u8.wav", "u9.wav"]
    for path, utterance in zip(written, tokens[8:10], strict=True):
        expected = tok.decode(utterance.bundle)
        torch.testing.assert_close(load_audio(path)[0], expected.clamp(-1, 1), rtol=0, atol=2**-15)
    before = written[0].stat().st_mtime_ns
    save_audio(written[1], torch.zeros(5), 16000)
    list(decode_corpus(tokens[8:10], tok, tmp_path, suffix=".wav"))
    assert written[0].stat().st_mtime_ns == before
    assert len(load_audio(written[1])[0]) == 5  # what is there stays
    with pytest.raises(TokenError):
        list(decode_corpus(tokens[8:10], models.tokenizer(seed=1), tmp_path / "other"))


@pytest.mark.parametrize(("ids", "text"), [(["../up", *"abc"], "leads out of"), (["a.wav", "a.flac", "b", "c"], "would both become")])
def test_ids_that_are_no_names_of_files_are_refused(ids, text, copy, settings, tmp_path):
    rewrite(copy, "part-00000.parquet", lambda table: with_column(table, "id", ids))
    with pytest.raises(CorpusError, match=text):
        next(decode_corpus(corpus.open(copy), settings.load(), tmp_path / "decoded"))
    assert not (tmp_path / "decoded").exists()


def test_lines_of_json_hold_every_column(place, tmp_path):
    tokens = corpus.open(place)
    assert write_jsonl(tokens[2:5], tmp_path / "out.jsonl") == 3
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    for row, utterance in zip(rows, tokens[2:5], strict=True):
        assert row == {**dict(utterance), "source_hash": utterance["source_hash"].hex()}


def test_webdataset_archives_hold_bundles_and_columns(place, tmp_path):
    tokens = corpus.open(place)
    paths = write_webdataset(tokens, tmp_path / "wds", shard_bytes=6000)
    assert len(paths) > 1
    found = {}
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                found.setdefault(key, {})[suffix] = tar.extractfile(member).read()
    assert list(found) == tokens.ids
    for utterance in tokens:
        assert TokenBundle.from_bytes(found[utterance.id]["utok"]) == utterance.bundle
        about = json.loads(found[utterance.id]["json"])
        assert (about["id"], about["text"], "s" in about) == (utterance.id, utterance["text"], False)
    with pytest.raises(CorpusError, match=r"tokens-00000\.tar is there already"):
        write_webdataset(tokens, tmp_path / "wds")


def read_megatron(prefix):
    """Read an indexed dataset as its format says: lengths, where each document begins, and the ids."""
    index, data = prefix.with_name(prefix.name + ".idx").read_bytes(), prefix.with_name(prefix.name + ".bin").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, documents = struct.unpack_from("<QBQQ", index, 9)
    kind = {8: np.uint16, 4: np.int32}[code]
    lengths = np.frombuffer(index, np.int32, sequences, 34)
    pointers = np.frombuffer(index, np.int64, sequences, 34 + 4 * sequences)
    assert np.frombuffer(index, np.int64, documents, 34 + 12 * sequences).tolist() == list(range(sequences + 1))
    assert (version, documents, len(index)) == (1, sequences + 1, 34 + 12 * sequences + 8 * documents)
    return kind, [np.frombuffer(data, kind, length, pointer).tolist() for length, pointer in zip(lengths, pointers, strict=True)]


@pytest.mark.parametrize(("text", "kind"), [(0, np.uint16), (70000, np.int32)])
def test_megatron_datasets_are_read_by_their_layout(text, kind, place, tmp_path):
    tokens = corpus.open(place)
    given = lm.Layout(lm.Vocabulary(tokens.info, text_size=text), lm.Sequential()) if text else None
    count = write_megatron(tokens, tmp_path / "ids", given)
    found, documents = read_megatron(tmp_path / "ids")
    assert (found, sum(map(len, documents))) == (kind, count)
    layout = lm.Layout.load(tmp_path / "ids.layout.json")
    assert isinstance(layout.body, lm.Sequential if text else lm.Interleaved)
    for document, utterance in zip(documents, tokens, strict=True):
        assert layout.from_ids(document, num_samples=utterance.bundle.num_samples) == utterance.bundle


def test_layouts_that_do_not_fit_a_corpus(place, tmp_path):
    tokens, other = corpus.open(place), models.tokenizer(models.VARIANTS["slow p"]).info
    with pytest.raises(CorpusError, match="build a vocabulary from"):
        write_megatron(tokens, tmp_path / "ids", lm.Layout(lm.Vocabulary(other), lm.Interleaved()))
    with pytest.raises(CorpusError, match="take one without text"):
        write_megatron(tokens, tmp_path / "ids", lm.Layout(lm.Vocabulary(tokens.info, text_size=4), lm.Interleaved(), text="after"))
    assert not list(tmp_path.glob("ids*"))


def test_an_estimate_is_about_what_comes_out(place, settings):
    plan = corpus.make_plan([place.parent / "audio" / "list.jsonl"], rows=4)
    found = estimate(plan, settings, probe_seconds=0.2)
    tokens = corpus.open(place)
    assert (found.rows, found.shards, found.unreadable) == (11, 3, 0)
    assert found.hours == pytest.approx(tokens.seconds / 3600)
    assert found.rate > 0
    assert found.hours_needed(2) == pytest.approx(found.hours / found.rate / 2)
    assert estimate(plan, settings, probe_seconds=0).hours_needed(1) is None


def test_an_estimate_counts_what_cannot_be_read(place, settings, tmp_path):
    listed = manifest(tmp_path / "audio", 8)
    for index in (2, 5):
        (tmp_path / "audio" / f"{index}.wav").unlink()
    found = estimate(corpus.make_plan([listed]), settings, probe_seconds=0)
    assert found.unreadable == 0.25
    assert found.hours == pytest.approx((1 + 3 + 4 + 6 + 7) * 800 / 16000 / 3600)


def test_a_manifest_of_two_tokenizers_is_refused(place, tmp_path):
    info = shards.read_info(Folder(place), "part-00000.parquet")
    with pytest.raises(CorpusError, match=r"b is of .*, other shards of"):
        write_manifest(Folder(tmp_path), {"a": info, "b": dataclasses.replace(info, numerics="cuda/float32/torch")})
    assert not list(tmp_path.iterdir())

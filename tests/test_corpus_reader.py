"""Reading a corpus: in order, by number, by id, in parts, in pieces."""

import itertools

import pyarrow.parquet as pq
import pytest
import torch

import models
from corpora import encode, manifest, tiny
from unitoken import corpus
from unitoken.errors import CorpusError


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def place(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return encode(folder / "tokens", manifest(folder / "audio"), settings)


def test_utterances_are_their_columns_and_a_bundle(place, settings):
    tokens, tok = corpus.open(place), settings.load()
    assert len(tokens) == 11
    assert tokens.ids == [f"u{index}" for index in range(11)]
    assert (tokens.info, tokens.numerics) == (tok.info, "cpu/float32/torch")
    assert tokens.seconds == pytest.approx(sum(range(11)) * 800 / 16000)
    assert tokens.columns == ["id", "g", "s", "p", "samples", "seconds", "source_hash", "path", "language", "speaker", "text"]
    for index, utterance in enumerate(tokens):
        assert (utterance.id, utterance["text"], utterance["speaker"], utterance["path"]) == (
            f"u{index}",
            f"Grüße {index}",
            index % 2,
            f"{index}.wav",
        )
        assert utterance.bundle == tok.encode(place.parent / "audio" / f"{index}.wav")
        assert dict(utterance)["samples"] == 800 * index
    assert "11 utterances" in repr(tokens)
    assert "u3" in repr(tokens[3])


@pytest.mark.parametrize("name", ["slow p", "slow s"])
def test_streams_of_several_codebooks_come_back(name, tmp_path):
    models.tokenizer(models.VARIANTS[name]).save_pretrained(tmp_path / "model")
    settings = corpus.Settings(model=str(tmp_path / "model"))
    place, tok = encode(tmp_path / "tokens", manifest(tmp_path / "audio", 4), settings), settings.load()
    for utterance in corpus.open(place):
        assert utterance.bundle == tok.encode(tmp_path / "audio" / utterance["path"])


def test_access_by_number_by_id_and_by_slice(place):
    tokens = corpus.open(place)
    assert tokens[5].id == tokens[-6].id == tokens["u5"].id == "u5"
    assert tokens[3:9:2].ids == ["u3", "u5", "u7"]
    assert tokens[3:9][1:3].ids == ["u4", "u5"]
    assert tokens[8:][0].id == "u8"
    assert tokens[8:].seconds == pytest.approx((8 + 9 + 10) * 800 / 16000)
    assert tokens.get("nobody") is None
    assert tokens[:3].get("u5") is None
    for key, error in ((11, IndexError), ("nobody", KeyError)):
        with pytest.raises(error):
            tokens[key]


def test_parts_are_all_of_it_and_share_nothing(place):
    tokens = corpus.open(place)
    parts = [tokens.part(index, 3).ids for index in range(3)]
    assert parts[1] == ["u1", "u4", "u7", "u10"]
    assert sorted(id_ for part in parts for id_ in part) == sorted(tokens.ids)
    with pytest.raises(CorpusError, match="part 3 of 3 is none of 0 to 2"):
        tokens.part(3, 3)


@pytest.mark.parametrize(("together", "visits"), [(1, 3), (2, 0), (8, 0)])
def test_a_shuffled_corpus_has_every_utterance_once_and_mixes_some_shards(place, together, visits):
    tokens = corpus.open(place)
    orders = [tokens.shuffled(seed, together).ids for seed in range(4)]
    assert orders[1] == tokens.shuffled(1, together).ids
    assert len({tuple(order) for order in orders}) == 4
    for order in orders:
        assert sorted(order) == sorted(tokens.ids)
        shards = [int(id_[1:]) // 4 for id_ in order]  # of 4, 4 and 3 rows
        runs = [shard for shard, _ in itertools.groupby(shards)]
        assert len(runs) == visits or (not visits and len(runs) > 3)
        if together == 2:  # the third comes alone, last
            assert len(set(shards) - set(shards[: -shards.count(shards[-1])])) == 1
    assert tokens[4:].shuffled(2)[0].bundle is not None
    with pytest.raises(CorpusError, match="together must be 1 shard or more, got 0"):
        tokens.shuffled(1, 0)


def test_crops_are_pieces_of_what_is_long_enough(place):
    tokens = corpus.open(place)
    crops = list(tokens.crops(5, seed=3))
    long = [utterance for utterance in tokens if len(utterance.bundle) >= 5]
    assert len(crops) == len(long) == 7
    for crop, utterance in zip(crops, long, strict=True):
        whole = utterance.bundle
        assert any(
            torch.equal(crop.s, whole.s[start : start + 5]) and torch.equal(crop.p, whole.p[start : start + 5]) for start in range(len(whole) - 4)
        )
        assert torch.equal(crop.g, whole.g)
    assert [crop.s.tolist() for crop in crops] == [crop.s.tolist() for crop in tokens.crops(5, seed=3)]
    starts = {tuple(list(tokens.crops(5, seed=seed))[-1].s.tolist()) for seed in range(20)}
    assert len(starts) > 1


def test_a_shard_is_plain_parquet_of_small_integers(place):
    table = pq.read_table(place / "part-00000.parquet")
    assert [str(table.schema.field(name).type) for name in ("id", "g", "s", "p", "samples")] == ["string", *["list<element: uint16>"] * 3, "int64"]
    metadata = pq.read_metadata(place / "part-00000.parquet")
    assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_what_is_no_corpus_is_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"no corpus in .*: it has no file part-\*\.parquet"):
        corpus.open(tmp_path)
    (tmp_path / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorpusError, match="is no shard, or damaged"):
        corpus.open(tmp_path)


def test_a_column_that_is_not_there_is_named(place):
    with pytest.raises(CorpusError, match="no column 'accent', its columns are"):
        corpus.open(place).column("accent")


def test_some_utterances_can_be_selected(place):
    tokens = corpus.open(place)
    chosen = tokens[2:].select([3, 0, 8])
    assert chosen.ids == ["u5", "u2", "u10"]
    for number in (-1, 9):
        with pytest.raises(CorpusError, match=f"utterances 0 to 8, not {number}"):
            tokens[2:].select([number])

"""A corpus is the same in a folder, in memory and in a bucket."""

import os

import fsspec
import pytest
import s3fs

import models
from corpora import tiny
from unitoken import corpus, save_audio
from unitoken.corpus import encode_corpus, make_plan
from unitoken.corpus.ranks import Share
from unitoken.corpus.store import Folder, store_at
from unitoken.errors import CorpusError

CLIPS, ROWS = 6, 2
PLACES = ("memory", "s3")


@pytest.fixture(scope="module")
def server():
    """The address of an S3 server that holds one bucket, `tokens`."""
    from moto import server as moto  # here: it takes seconds

    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        started = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        started.start()
        host, port = started.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("tokens")
        yield
        started.stop()
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def url(request, tmp_path):
    """A URL of no file, of its own for each test."""
    if request.param == "memory":
        return f"memory://{tmp_path.name}"
    request.getfixturevalue("server")
    return f"s3://tokens/{tmp_path.name}/deep"


@pytest.fixture(params=["folder", *PLACES])
def store(request, tmp_path):
    """An empty store."""
    if request.param == "folder":
        return Folder(tmp_path / "not" / "yet")
    if request.param == "s3":
        request.getfixturevalue("server")
        return store_at(f"s3://tokens/{tmp_path.name}")
    return store_at(f"memory://{tmp_path.name}")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Of a tiny model."""
    return tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """A folder of clips."""
    folder = tmp_path_factory.mktemp("audio")
    for index in range(CLIPS):
        save_audio(folder / f"{index}.wav", models.clip(900 * (index + 1), index), models.RATE)
    return folder


@pytest.fixture(scope="module")
def expected(audio, settings, tmp_path_factory):
    """The files of a corpus in a folder."""
    place = tmp_path_factory.mktemp("expected")
    encode_corpus(place, make_plan([audio], rows=ROWS), settings)
    return files(Folder(place))


def files(store):
    return {name: store.get(name) for name in store.names()}


def encoded(place, plan, settings, **options):
    """Encode, and return the numbers of the shards that were written."""
    reports = []
    encode_corpus(place, plan, settings, watch=lambda _, report: reports.append(report), **options)
    return [report.shard for report in reports if report is not None and report.new]


# Stores


def test_a_store_holds_what_was_put_there_last(store):
    assert store.names() == []
    store.put("b", b"one")
    store.put("a", b"")
    store.put("b", b"other")
    assert store.names() == ["a", "b"]
    assert (store.get("a"), store.get("b")) == (b"", b"other")
    with store.open("b") as file:
        file.seek(2)
        assert file.read() == b"her"


def test_a_store_removes_what_is_there_and_minds_nothing_else(store):
    store.put("a", b"one")
    store.put("b", b"two")
    store.remove("a")
    store.remove("a")
    assert store.names() == ["b"]
    for read in (store.get, store.open):
        with pytest.raises(FileNotFoundError):
            read("a")


def test_a_store_has_what_is_there_now(store):
    assert not store.has("a")
    store.put("a", b"1")
    assert (store.has("a"), store.has("b")) == (True, False)
    store.remove("a")
    assert not store.has("a")


def test_names_that_begin_with_a_dot_are_not_listed(store):
    store.put("a", b"")
    store.put(".a", b"")
    assert store.names() == ["a"]


def test_a_file_is_no_place_of_a_corpus(store):
    store.put("file", b"")
    with pytest.raises(CorpusError, match="file is a file; give the folder"):
        store_at(f"{store}/file").names()


def test_a_folder_has_a_file_whole_or_not_at_all(tmp_path, monkeypatch):
    store = Folder(tmp_path)
    store.put("a", b"old")
    during = []

    def full(descriptor):
        during.append((store.names(), len(os.listdir(tmp_path)), store.get("a")))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.put("a", b"new")
    assert during == [(["a"], 2, b"old")]
    assert os.listdir(tmp_path) == ["a"]
    assert store.get("a") == b"old"


def test_a_folder_returns_when_the_disk_holds_the_file_and_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    Folder(tmp_path).put("a", b"data")
    assert synced == [(tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino]


def test_a_file_url_is_a_folder(tmp_path):
    assert store_at(f"file://{tmp_path}/tokens").path == tmp_path / "tokens"


def test_names_are_those_that_are_there_now(server):
    store = store_at("s3://tokens/now")
    store.put("a", b"")
    assert store.names() == ["a"]
    other = fsspec.filesystem("s3", skip_instance_cache=True)
    other.pipe_file("tokens/now/b", b"")
    other.rm_file("tokens/now/a")
    assert store.names() == ["b"]
    other.rm_file("tokens/now/b")
    assert store.names() == []


def test_a_bucket_is_not_made(server):
    store = store_at("s3://token/typo")
    assert store.names() == []
    with pytest.raises(CorpusError, match=r"cannot write to s3://token/typo: there is no token; make it first"):
        store.put("a", b"")
    assert not store_at("s3://token")._fs.exists("token")


def test_a_place_that_cannot_be_listed_is_named(server, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/none")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(CorpusError, match=r"cannot list s3://tokens/a: .*credentials"):
            store_at("s3://tokens/a").names()
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("place", ["nowhere://tokens", "nowhere://tokens/a"])
def test_a_url_that_is_not_known_is_named(place):
    with pytest.raises(CorpusError, match=f"cannot reach {place}: Protocol not known: nowhere"):
        store_at(place)


# Corpora


@pytest.mark.parametrize("url", PLACES, indirect=True)
def test_a_corpus_is_the_same_behind_a_url(url, audio, expected, settings):
    plan = make_plan([audio], rows=ROWS)
    assert encoded(url, plan, settings, share=Share(1, 2)) == [1]
    assert "_SUCCESS" not in store_at(url).names()
    assert encoded(url, plan, settings) == [0, 2]
    assert files(store_at(url)) == expected


@pytest.mark.parametrize("url", PLACES, indirect=True)
def test_a_shard_that_is_gone_is_made_again_and_no_other(url, audio, expected, settings):
    plan = make_plan([audio], rows=ROWS)
    encode_corpus(url, plan, settings)
    store_at(url).remove("part-00001.parquet")
    assert encoded(url, plan, settings) == [1]
    assert encoded(url, plan, settings) == []
    assert files(store_at(url)) == expected


@pytest.mark.parametrize("url", PLACES, indirect=True)
def test_a_corpus_behind_a_url_is_read(url, audio, settings):
    encode_corpus(url, make_plan([audio], rows=ROWS), settings)
    tokens, tok = corpus.open(url), settings.load()
    assert tokens.ids == [f"{index}.wav" for index in range(CLIPS)]
    assert tokens["3.wav"].bundle == tok.encode(audio / "3.wav")
    assert tokens[-1].bundle == tok.encode(audio / "5.wav")


@pytest.mark.parametrize("url", PLACES, indirect=True)
def test_audio_behind_urls_is_heard(url, audio, expected, settings, tmp_path):
    held = store_at(url)
    names = [f"{index}.wav" for index in range(CLIPS)]
    for name in names:
        held.put(name, (audio / name).read_bytes())
    rows = [f"{name}\t{url}/{name}" for name in [*names, "none.wav"]]
    (tmp_path / "manifest.tsv").write_text("\n".join(["id\tpath", *rows]), encoding="utf-8")
    encode_corpus(tmp_path / "tokens", make_plan([tmp_path / "manifest.tsv"], rows=CLIPS), settings)
    tokens, tok = corpus.open(tmp_path / "tokens"), settings.load()
    assert tokens.ids == names
    assert [utterance.bundle for utterance in tokens] == [tok.encode(audio / name) for name in names]
    assert f"{url}/none.wav" in (tmp_path / "tokens" / "errors.jsonl").read_text(encoding="utf-8")


def test_processes_share_a_bucket(server, audio, expected, settings):
    url = "s3://tokens/processes"
    assert sorted(encoded(url, make_plan([audio], rows=ROWS), settings, workers=2)) == [0, 1, 2]
    assert files(store_at(url)) == expected

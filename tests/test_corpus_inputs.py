"""What becomes a plan: folders, manifests, archives, data sets; and how a row of it finds its audio again."""

import gzip
import io
import json
import os
import re
import shutil
import tarfile

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import unitoken.corpus.media
from unitoken import save_audio
from unitoken.audio import audio_blocks
from unitoken.corpus import Plan, Row, make_plan
from unitoken.corpus.media import check_length, fetch, hear, shown
from unitoken.corpus.plan import RESERVED, SOURCE, StoredPlan, digest_of, locators, rows_of
from unitoken.corpus.store import Folder
from unitoken.errors import AudioError, AudioFileError, CorpusError

RATE = 8000


def clip(seed, samples=800):
    """Samples that a WAV file keeps exactly."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-9999, 9999, samples) / 2**15).float()


def wav(seed, samples=800, format="wav"):
    file = io.BytesIO()
    save_audio(file, clip(seed, samples), RATE, format=format)
    return file.getvalue()


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def manifest(path, /, **columns):
    """Write a manifest of the format that the path names."""
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path, row_group_size=2)
    elif path.suffix == ".tsv":
        put(path, "\n".join("\t".join(map(str, row)) for row in [list(columns), *(row.values() for row in rows)]) + "\n")
    else:
        put(path, lines(*rows))
    return path


def lines(*objects):
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects)


def tar(path, *members, mode="w"):
    with tarfile.open(path, mode) as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data.encode() if isinstance(data, str) else data))
    return path


def dataset(folder, *tables, listed=True):
    """Write what `datasets.save_to_disk` writes."""
    put(folder / "dataset_info.json", "{}")
    names = [f"data-{number:05d}-of-{len(tables):05d}.arrow" for number in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with pa.ipc.new_stream(folder / name, table.schema) as stream:
            stream.write_table(table)
    if listed:
        put(folder / "state.json", json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return folder


def ids(plan):
    return plan.table["id"].to_pylist()


def rows(plan):
    return {row.id: row for row in rows_of(plan.table)}


def heard(row):
    return hear(fetch(row), RATE).waveform


def holds(plan, **seeds):
    """Whether rows, by id, sound like clips."""
    return all(torch.equal(heard(row), clip(seeds[row.id])) for row in rows_of(plan.table)) and list(seeds) == ids(plan)


def refused(what, *inputs, **kwargs):
    with pytest.raises(CorpusError, match=what):
        make_plan(inputs, **kwargs)


# Folders and files


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    names = ["Z.WAV", "a b.wav", "a/2.wav", "a/b/1.flac", "a.wav", "é.opus", "é/語.wav"]
    for name in reversed([*names, "notes.txt", "wav", "a/cover.jpg"]):
        put(tmp_path / name, name)
    plan = make_plan([tmp_path])
    assert ids(plan) == sorted(names, key=str.encode)
    assert all(row.path.endswith(name.encode()) and row.path == os.fsencode(tmp_path / name) for name, row in rows(plan).items())
    assert plan.table.column_names == ["id", SOURCE]


def test_a_folder_may_be_given_relative_to_where_the_program_runs(tmp_path, monkeypatch):
    put(tmp_path / "in/a.wav", wav(1))
    monkeypatch.chdir(tmp_path)
    plan = make_plan(["in"])
    monkeypatch.chdir("/")
    assert holds(plan, **{"a.wav": 1})


def test_links_to_files_and_folders_are_followed_and_loops_end(tmp_path):
    put(tmp_path / "elsewhere/x.wav", wav(1))
    put(tmp_path / "in/a/y.wav", wav(2))
    (tmp_path / "in/linked.wav").symlink_to("../elsewhere/x.wav")
    (tmp_path / "in/far").symlink_to("../elsewhere")
    (tmp_path / "in/a/up").symlink_to("..")
    (tmp_path / "in/itself").symlink_to("itself")
    assert holds(make_plan([tmp_path / "in"]), **{"a/y.wav": 2, "far/x.wav": 1, "linked.wav": 1})


def test_a_folder_of_several_names_is_read_once_under_its_own(tmp_path):
    put(tmp_path / "m/x.wav", wav(1))
    put(tmp_path.parent / "outside/x.wav", wav(2))
    for name, target in {"a": "m", "z": "m", "c": "../outside", "b": "../outside"}.items():
        (tmp_path / name).symlink_to(target)
    assert ids(make_plan([tmp_path])) == ["b/x.wav", "m/x.wav"]


def test_a_dangling_link_is_a_row_that_fails(tmp_path):
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    (row,) = rows(make_plan([tmp_path])).values()
    with pytest.raises(AudioFileError, match=r"no such file: .*gone\.wav; check the path"):
        fetch(row)


def test_a_name_that_is_no_utf8_is_found_again(tmp_path):
    try:
        put(tmp_path / os.fsdecode(b"caf\xe9.wav"), wav(1))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    plan = make_plan([tmp_path])
    assert holds(plan, **{r"caf\xe9.wav": 1})
    assert shown(rows_of(plan.table)[0]).endswith(r"/caf\xe9.wav")


def test_files_are_taken_by_themselves(tmp_path):
    assert holds(make_plan([put(tmp_path / "b.wav", wav(2)), put(tmp_path / "a.FLAC", wav(1, format="flac"))]), **{"b.wav": 2, "a.FLAC": 1})


# Manifests


@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "json", "parquet"])
def test_every_format_of_a_manifest_says_the_same(tmp_path, suffix):
    for number, name in enumerate(["a b.wav", "語/é.wav"]):
        put(tmp_path / "data" / name, wav(number))
    columns = {"id": ["x", "y"], "speaker": ["ann", 'b"ob'], "audio": ["a b.wav", "語/é.wav"], "duration": [0.1, 0.2], "seconds": [1.5, 2.5]}
    plan = make_plan([manifest(tmp_path / f"data/m.{suffix}", **columns)])
    assert holds(plan, x=0, y=1)
    assert sorted(plan.table.column_names) == ["audio", SOURCE, "id", "speaker"]
    assert plan.table["speaker"].to_pylist() == columns["speaker"]


@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "parquet"])
def test_without_ids_rows_are_named_by_their_paths(tmp_path, suffix):
    put(tmp_path / "in/b.wav", wav(1))
    put(tmp_path / "a.wav", wav(2))
    paths = ["./b.wav", "../a.wav", f"{tmp_path}/a.wav"]
    plan = make_plan([manifest(tmp_path / f"in/m.{suffix}", path=paths)])
    assert holds(plan, **dict(zip(paths, [1, 2, 2], strict=True)))
    assert rows(plan)["../a.wav"].path == rows(plan)[paths[2]].path == os.fsencode(tmp_path / "a.wav")
    assert plan.table.column_names == ["id", SOURCE]


@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("columns", "start", "end"),
    [
        ({"start": [0.5], "end": [0.75]}, 0.5, 0.75),
        ({"start": [0.5], "duration": [0.25]}, 0.5, 0.75),
        ({"start": [0.5], "end": [0.75], "duration": [9.0]}, 0.5, 0.75),
        ({"start": [0.5]}, 0.5, None),
        ({"end": [0.75]}, None, 0.75),
        ({"offset": [0.5], "duration": [0.25]}, 0.5, 0.75),
        ({"offset": [7.0], "start": [0.5], "duration": [0.25]}, 0.5, 0.75),
        ({"duration": [0.25]}, None, None),
        ({"start": [1], "end": [2]}, 1.0, 2.0),
    ],
)
def test_columns_say_where_a_row_starts_and_ends(tmp_path, suffix, columns, start, end):
    plan = make_plan([manifest(tmp_path / f"m.{suffix}", id=["x"], audio=["a.wav"], **columns)])
    (row,) = rows(plan).values()
    assert (row.start, row.end) == (start, end)
    assert set(plan.table.column_names) == {"id", "audio", SOURCE, *columns} - {"duration"}


def test_a_span_is_read_of_every_kind_of_input(tmp_path):
    put(tmp_path / "a.wav", wav(1, 8000))
    span = {"start": [0.25], "end": [0.75]}
    inputs = [
        make_plan([manifest(tmp_path / "m.tsv", audio=["a.wav"], **span)]),
        make_plan([manifest(tmp_path / "m.parquet", audio=[wav(1, 8000)], **span)]),
        make_plan([tmp_path / "m.tsv"], archives=[tar(tmp_path / "a.tar", ("a.wav", wav(1, 8000)))]),
    ]
    found = [rows_of(plan.table)[0] for plan in inputs]
    assert all(torch.equal(heard(row), clip(1, 8000)[2000:6000]) for row in found)
    assert len({fetch(row).source_hash for row in found}) == 1


def test_made_ids_tell_spans_apart_and_leave_whole_files_alone(tmp_path):
    columns = {"audio": ["a.wav"] * 4, "start": [12345.6781, 12345.6782, 0.5, None], "end": [12346.0, 12346.0, None, None]}
    names = ["a.wav#12345.6781-12346", "a.wav#12345.6782-12346", "a.wav#0.5-", "a.wav"]
    assert ids(make_plan([manifest(tmp_path / "m.parquet", **columns)])) == names


def test_a_nemo_manifest_is_read_as_it_is(tmp_path):
    put(tmp_path / "a.wav", wav(1, 8000))
    about = {"audio_filepath": "a.wav", "text": "so", "duration": 0.25}
    put(tmp_path / "m.json", lines({**about, "offset": 0}, {**about, "offset": 0.5, "lang": "en"}, about))
    plan = make_plan([tmp_path / "m.json"])
    assert ids(plan) == ["a.wav#0-0.25", "a.wav#0.5-0.75", "a.wav"]
    assert [len(heard(row)) for row in rows_of(plan.table)] == [2000, 2000, 8000]
    assert plan.table["lang"].to_pylist() == [None, "en", None]


def test_columns_of_any_type_travel_along(tmp_path):
    others = {
        "n": [1, None],
        "weights": [[0.5], []],
        "about": [{"a": 1, "b": ["x"]}, None],
        "ok": [True, False],
        "none": [None, None],
        "raw": [b"\xff", b""],
        "day": pa.array([0, 1], pa.date32()),
        "kind": pa.array(["p", "q"]).dictionary_encode(),
    }
    pq.write_table(pa.table({"audio": ["a.wav", "b.wav"], **others}), tmp_path / "m.parquet")
    plan = make_plan([tmp_path / "m.parquet"])
    plan.save(store := Folder(tmp_path / "corpus"))
    assert plan.table.select(list(others)).equals(pa.table(others))
    assert StoredPlan(store).part(0).equals(plan.table)


def test_texts_of_jsonl_stay_as_they_are_written(tmp_path):
    days = ["2024-05-01", "2024-05-02"]
    listed = [{"id": day, "audio": "a.wav", "days": [day], "about": {"day": day}, "text": "x" * 2_000_000} for day in days]
    plan = make_plan([put(tmp_path / "m.jsonl", lines(*listed))])
    assert ids(plan) == days
    assert plan.table.select(["days", "about", "text"]).to_pylist() == [{name: one[name] for name in ("days", "about", "text")} for one in listed]


def test_tsv_is_read_without_quotes_with_a_mark_in_front_and_any_line_ends(tmp_path):
    put(tmp_path / "m.tsv", '\ufeffid\taudio\ttext\tend\r\n007\ta.wav\t"so\t\r\nNA\tb.wav\tnull\t1.5\r\n')
    plan = make_plan([tmp_path / "m.tsv"])
    assert ids(plan) == ["007", "NA"]
    assert plan.table["text"].to_pylist() == ['"so', "null"]
    assert [row.end for row in rows_of(plan.table)] == [None, 1.5]


def test_columns_of_audio_and_ids_can_be_named(tmp_path):
    path = manifest(tmp_path / "m.jsonl", id=[7, 7], name=[1, 2], audio=["no.wav", "no.wav"], clean=["a.wav", "b.wav"])
    plan = make_plan([path], audio="clean", id_column="name")
    assert {name: os.path.basename(row.path) for name, row in rows(plan).items()} == {"1": b"a.wav", "2": b"b.wav"}
    assert plan.table["audio"].to_pylist() == ["no.wav", "no.wav"]
    assert "name" not in plan.table.column_names


def test_the_first_known_name_is_the_column_of_audio(tmp_path):
    plan = make_plan([manifest(tmp_path / "m.tsv", id=["x"], wav=["4.wav"], path=["2.wav"], audio_filepath=["3.wav"])])
    assert rows(plan)["x"].path.endswith(b"/2.wav")


def test_a_parquet_file_holds_audio_in_its_row_groups(tmp_path):
    path = manifest(tmp_path / "m.parquet", speaker=list("abcde"), audio=[wav(n) for n in range(5)])
    plan = make_plan([path])
    assert holds(plan, **{f"m-{n}": n for n in range(5)})
    assert plan.table["speaker"].to_pylist() == list("abcde")
    assert plan.table.column_names == ["id", SOURCE, "speaker"]


def test_a_parquet_file_may_have_no_column_but_audio(tmp_path):
    assert holds(make_plan([manifest(tmp_path / "m.parquet", wav=[wav(0), wav(1)])]), **{"m-0": 0, "m-1": 1})


def test_the_audio_struct_of_datasets_holds_bytes_or_a_path(tmp_path):
    put(tmp_path / "b.wav", wav(2))
    structs = [{"bytes": wav(1), "path": "a.wav"}, {"bytes": None, "path": "b.wav"}, {"bytes": None, "path": f"{tmp_path}/b.wav"}]
    assert holds(make_plan([manifest(tmp_path / "m.parquet", id=["x", "y", "z"], audio=structs)]), x=1, y=2, z=2)


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_paths_in_parquet_may_be_any_kind_of_text(tmp_path, kind):
    put(tmp_path / "a.wav", wav(1))
    pq.write_table(pa.table({"audio": pa.array(["a.wav"]).cast(kind)}), tmp_path / "m.parquet")
    assert holds(make_plan([tmp_path / "m.parquet"]), **{"a.wav": 1})


@pytest.mark.parametrize("listed", [True, False])
def test_a_saved_dataset_is_read_file_by_file(tmp_path, listed):
    structs = [{"bytes": wav(n), "path": None} for n in range(3)]
    parts = [pa.table({"id": ids, "text": ids, "audio": audio}) for ids, audio in ((["x", "y"], structs[:2]), (["z"], structs[2:]))]
    folder = dataset(tmp_path / "d", *parts, listed=listed)
    if listed:  # what datasets keeps of its work
        shutil.copy(folder / "data-00000-of-00002.arrow", folder / "cache-1f.arrow")
    plan = make_plan([folder])
    assert holds(plan, x=0, y=1, z=2)
    assert plan.table["text"].to_pylist() == ["x", "y", "z"]
    assert [row.index for row in rows_of(plan.table)] == [0, 1, 0]


def test_a_saved_dataset_may_name_files_and_have_no_ids(tmp_path):
    put(tmp_path / "d/a.wav", wav(1))
    assert holds(make_plan([dataset(tmp_path / "d", pa.table({"file": ["a.wav"]}))]), **{"a.wav": 1})
    bytes_ = pa.table({"audio": [wav(2)]})
    assert holds(make_plan([dataset(tmp_path / "e", bytes_, bytes_)]), **{"data-00000-of-00002-0": 2, "data-00001-of-00002-0": 2})


def test_datasets_that_are_none_are_refused(tmp_path):
    put(tmp_path / "none/dataset_info.json", "{}")
    refused(r"no \.arrow file; give a folder that save_to_disk", tmp_path / "none")
    put(tmp_path / "dict/dataset_dict.json", "{}")
    dataset(tmp_path / "dict/train", pa.table({"audio": [b""]}))
    refused(r"is a DatasetDict; give .* its splits, each a folder: .*/dict/train", tmp_path / "dict")
    dataset(tmp_path / "two", pa.table({"audio": ["a"], "n": [1]}), pa.table({"audio": ["b"], "n": ["x"]}))
    refused("cannot read the manifest .*two", tmp_path / "two")
    put(tmp_path / "d/dataset_info.json", "{}")
    put(tmp_path / "d/data.arrow", b"ARROW1 of the other format")
    refused("cannot read the manifest .*/d", tmp_path / "d")


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("m.tsv", "", "cannot read the manifest .*m.tsv: .*; TSV with a header, JSONL and Parquet are read, as UTF-8"),
        ("m.tsv", b"audio\ncaf\xe9.wav\n", "cannot read .* as UTF-8"),
        ("m.tsv", "audio\tx\na.wav\n", "cannot read .*Expected 2 columns"),
        ("m.tsv", "audio\tstart\na.wav\tsoon\n", "cannot read .*soon"),
        ("m.tsv", "id\tfoo\n1\t2\n", r"no column of audio: expected audio or path or .*, its columns are \['id', 'foo'\]; name the column"),
        ("m.tsv", "audio\tx\tx\na\tb\tc\n", "several columns named 'x'; rename"),
        ("m.tsv", "id\taudio\nx\t\ny\ta.wav\n", "1 rows without a path in the column 'audio'; fill them in or leave"),
        ("m.tsv", "audio\taudio_source\na.wav\tradio\n", "a column 'audio_source', .*; rename it"),
        ("m.tsv", "id\taudio\n", "lists no utterance; give a folder"),
        ("m.jsonl", "", "cannot read"),
        ("m.jsonl", lines([{"audio": "a.wav"}]), "cannot read"),
        ("m.jsonl", lines({"audio": "a.wav", "n": 1}, {"audio": "b.wav", "n": "x"}), "cannot read .*n.* changed from number to string"),
        ("m.jsonl", lines({"audio": {"path": "a.wav"}}), "column 'audio' holds struct.* and no audio; TSV and JSONL name files .*; name another"),
        ("m.jsonl", lines({"audio": None}), "column 'audio' holds null"),
        ("m.jsonl", lines({"audio": "a.wav"}, {"audio": None}), "1 rows without a path"),
        ("m.jsonl", lines({"audio": "a.wav", "start": "soon"}), "column 'start' should hold seconds, got string: .*; rename or mend it"),
        ("m.jsonl", lines({"audio": "a.wav", "offset": [1]}), "column 'offset' should hold seconds, got list"),
        ("m.jsonl", lines({"audio": "a.wav", "start": 1, "duration": "long"}), "column 'duration' should hold seconds"),
        ("m.jsonl", lines({"audio": "a.wav", "id": [1]}), "column 'id' should hold ids, got list"),
        ("m.jsonl", lines({"audio": "a.wav", "meta": {}}), "a column that Parquet cannot hold: .*'meta'.*; leave it out"),
        ("m.parquet", "no Parquet", "cannot read the manifest .*m.parquet"),
        ("m.txt", "a.wav", r"none of \.tsv, \.jsonl, .* or an audio file; give a folder, a manifest or an archive"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused_with_what_to_do(tmp_path, name, text, what):
    refused(what, put(tmp_path / name, text))


def test_columns_that_are_not_there_or_hold_no_audio_are_refused(tmp_path):
    path = manifest(tmp_path / "m.parquet", audio=["a.wav"], n=[1], both=[{"x": 1}])
    refused(r"no column of audio: expected clean, its columns are \['audio', 'n', 'both'\]", path, audio="clean")
    refused(r"no column 'name' for the ids, its columns are .*; name another", path, id_column="name")
    refused("column 'n' holds int64 and no audio", path, audio="n")
    refused("column 'both' holds struct<x: int64> and no audio", path, audio="both")


# Several inputs


def test_inputs_of_different_columns_make_one_plan_in_their_order(tmp_path):
    put(tmp_path / "f/z.wav", wav(1))
    table = manifest(tmp_path / "m.tsv", id=["t"], audio=["f/z.wav"], text=["so"])
    held = manifest(tmp_path / "m.parquet", id=["p"], audio=[wav(3)], age=[40])
    other = manifest(tmp_path / "m.jsonl", id=["j"], audio=["f/z.wav"], age=[40.5])
    plan = make_plan([table, tmp_path / "f", tar(tmp_path / "a.tar", ("a.wav", wav(2)), ("a.txt", "yes")), held, other])
    assert holds(plan, t=1, **{"z.wav": 1}, a=2, p=3, j=1)
    assert plan.table["text"].to_pylist() == ["so", None, "yes", None, None]
    assert plan.table["age"].to_pylist() == [None, None, None, 40, 40.5]


def test_inputs_that_do_not_go_together_are_refused(tmp_path):
    one = manifest(tmp_path / "1.jsonl", audio=["a.wav"], age=[40])
    refused("columns of one name and different kinds: .*; rename them, or make two", one, manifest(tmp_path / "2.tsv", audio=["b.wav"], age=["x"]))
    refused("ids must be unique, 1 rows have an earlier row's: 'a.wav', .*; rename", one, one)
    refused("no such input: .*nowhere; give a folder", one, tmp_path / "nowhere")
    refused("no input; give a folder")
    put(tmp_path / "silent/notes.txt", "no audio")
    refused("lists no utterance; give a folder with audio", tmp_path / "silent")
    with pytest.raises(CorpusError, match=r"inputs must be a list of paths, got '.*'; put it in brackets"):
        make_plan(str(one))
    with pytest.raises(CorpusError, match="archives must be a list of paths"):
        make_plan([one], archives=tmp_path / "a.tar")


# Archives


def test_an_archive_is_read_as_webdataset_has_it(tmp_path):
    path = tar(
        tmp_path / "a.tar",
        ("b.wav", wav(1)),
        ("b.meta.json", json.dumps({"speaker": "ann", "duration": 1, "seconds": 1, "id": "other", "n": 1, "tags": ["x"]})),
        ("b.txt", " so \n"),
        ("sub/a.x/a.cls", "3"),
        ("sub/a.x/a.sound.FLAC", wav(2, format="flac")),
        ("sub/a.x/a.json", json.dumps({"n": 2.5, "more": {"k": 1}})),
        ("lonely.json", json.dumps({"samples": 1})),
        ("._b.wav", "of macOS"),
        ("sub/._a.wav", "of macOS"),
        ("e\u0301 \u8a9e.wav", wav(3)),
    )
    with tarfile.open(path, "a") as file:
        folder, link = tarfile.TarInfo("dir.wav"), tarfile.TarInfo("link.wav")
        folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, "b.wav"
        file.addfile(folder)
        file.addfile(link)
    plan = make_plan([path])
    assert holds(plan, **{"b": 1, "sub/a.x/a": 2, "e\u0301 \u8a9e": 3})
    about = [
        {"speaker": "ann", "n": 1.0, "tags": ["x"], "text": "so", "class": None, "more": None},
        {"speaker": None, "n": 2.5, "tags": None, "text": None, "class": "3", "more": {"k": 1}},
        dict.fromkeys(["speaker", "n", "tags", "text", "class", "more"]),
    ]
    assert plan.table.drop_columns(["id", SOURCE]).to_pylist() == about


def test_a_member_whose_name_is_no_utf8_has_an_id_all_the_same(tmp_path):
    assert holds(make_plan([tar(tmp_path / "a.tar", (os.fsdecode(b"caf\xe9.wav"), wav(1)))]), **{r"caf\xe9": 1})


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ([("a.wav", b""), ("a.flac", b"")], "two audio files named a; an utterance has one: rename the other"),
        ([("a.wav", b""), ("a.json", "{")], "a.json in .* is no JSON: .*; mend it"),
        ([("a.wav", b""), ("a.json", b"\xff\xfe\xff")], "a.json in .* is no JSON"),
        ([("a.wav", b""), ("a.json", "[1]")], "no JSON object but list; give an object, whose fields become columns"),
        ([("a.wav", b""), ("a.json", '{"audio_source": 1}')], "field 'audio_source', .*; rename it"),
        ([("a.wav", b""), ("a.json", '{"samples": 1}')], r"columns \['samples'\], names that .*; rename"),
        ([("a.wav", b""), ("a.json", '{"n": 1}'), ("b.wav", b""), ("b.json", '{"n": "x"}')], "field 'n' of different kinds: .*; give it the same"),
        ([("a.wav", b""), ("a.json", '{"n": 99999999999999999999}')], "field 'n' of different kinds"),
        ([("a.txt", "text only")], "lists no utterance"),
    ],
)
def test_an_archive_of_other_things_is_refused_with_what_to_do(tmp_path, members, what):
    refused(what, tar(tmp_path / "a.tar", *members))


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w:gz"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.xz", "w:xz"), ("a.tar.bz2", "w:bz2")])
def test_a_compressed_archive_is_refused(tmp_path, name, mode):
    refused("cannot read .*; give a tar file that is whole and not compressed", tar(tmp_path / name, ("a.wav", wav(1)), mode=mode))


@pytest.mark.parametrize("member", ["z.wav", "a.json"])
def test_an_archive_that_was_cut_short_is_refused(tmp_path, member):
    path = tar(tmp_path / "a.tar", ("a.wav", wav(1)), (member, b" " * 5000))
    put(tmp_path / "m.tsv", "audio\na.wav\n")
    os.truncate(path, 512 + 2048 + 512 + 1000)
    refused("cannot read .*a.tar: .*; give a tar file that is whole", path)
    refused("cannot read .*a.tar", tmp_path / "m.tsv", archives=[path])


def test_a_manifest_finds_its_audio_in_archives_and_rows_in_none_come_last(tmp_path):
    one = tar(tmp_path / "1.tar", ("./d/b.wav", wav(1)), ("other.wav", wav(9)), ("a.wav", wav(2)))
    two = tar(tmp_path / "2.tar", ("c d.wav", wav(3)), ("a.wav", wav(8)))
    put(tmp_path / "in/here.wav", wav(4))
    table = {"id": ["gone", "c", "a", "here", "b"], "path": ["gone.wav", "c d.wav", "a.wav", "here.wav", "d/b.wav"], "n": [0, 1, 2, 3, 4]}
    for suffix in ("tsv", "jsonl", "parquet"):
        plan = make_plan([manifest(tmp_path / f"in/m.{suffix}", **table)], archives=[one, two])
        assert ids(plan) == ["b", "a", "c", "gone", "here"]
        assert [torch.equal(heard(rows(plan)[name]), clip(seed)) for name, seed in (("b", 1), ("a", 2), ("c", 3), ("here", 4))] == [True] * 4
        assert [int(n) for n in plan.table["n"].to_pylist()] == [4, 2, 1, 0, 3]
    with pytest.raises(AudioFileError, match=r"no such file: .*/in/gone\.wav"):
        fetch(rows(plan)["gone"])


def test_spans_of_one_member_stay_with_their_rows(tmp_path):
    columns = {"id": ["x", "y"], "audio": ["b.wav", "a.wav"], "start": [0.25, 0.5], "end": [0.5, 1.0]}
    path = tar(tmp_path / "a.tar", ("a.wav", wav(1, 8000)), ("b.wav", wav(2, 8000)))
    plan = make_plan([manifest(tmp_path / "m.tsv", **columns)], archives=[path])
    assert [(row.id, row.start, row.end) for row in rows_of(plan.table)] == [("y", 0.5, 1.0), ("x", 0.25, 0.5)]
    assert torch.equal(heard(rows(plan)["x"]), clip(2, 8000)[2000:4000])


def test_a_table_that_holds_its_audio_needs_no_archive(tmp_path):
    named = manifest(tmp_path / "m.tsv", audio=["a.wav"])
    held = manifest(tmp_path / "m.parquet", audio=[wav(2)])
    plan = make_plan([named, held], archives=[tar(tmp_path / "a.tar", ("a.wav", wav(1)))])
    assert holds(plan, **{"a.wav": 1, "m-0": 2})


def test_archives_without_any_row_or_that_are_not_there_are_refused(tmp_path):
    path = manifest(tmp_path / "m.tsv", audio=["a.wav"])
    refused(r"no row of the manifest is a member of .*b\.tar; name them there", path, archives=[tar(tmp_path / "b.tar", ("x/a.wav", wav(1)))])
    refused(r"cannot read .*c\.tar: .*No such file", path, archives=[tmp_path / "c.tar"])


# Lhotse


def cut(name, start=0, duration=1.0, source="a.wav", said=(), **more):
    recording = {"id": "r", "sources": [{"type": "file", "channels": [0], "source": str(source)}], "duration": 1.0, "sampling_rate": RATE}
    return {"id": name, "type": "MonoCut", "start": start, "duration": duration, "channel": 0, "recording": recording, "supervisions": said, **more}


def cuts(path, *listed):
    data = lines(*listed).encode()
    return put(path, gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("name", ["cuts.jsonl", "any.jsonl.gz"])
def test_cuts_are_spans_of_recordings_unless_they_are_all_of_one(tmp_path, monkeypatch, name):
    put(tmp_path / "a.wav", wav(1, 8000))
    said = [{"text": "so", "speaker": "ann", "language": "en"}, {"text": "well", "speaker": "bob", "language": "en"}, {"text": None}]
    listed = [cut("whole"), cut("x", 0.25, 0.5, said=said), cut("head", 0, 0.5, tmp_path / "a.wav")]
    monkeypatch.chdir(tmp_path)
    plan = make_plan([cuts(tmp_path / "deep" / name, *listed)])
    monkeypatch.chdir("/")
    assert [(row.id, row.start, row.end) for row in rows_of(plan.table)] == [("whole", None, None), ("x", 0.25, 0.75), ("head", 0.0, 0.5)]
    for row, part in zip(rows_of(plan.table), [slice(None), slice(2000, 6000), slice(4000)], strict=True):
        assert torch.equal(heard(row), clip(1, 8000)[part])
    nothing = {"text": None, "speaker": None, "language": None}
    said = {"text": "so well", "speaker": "ann bob", "language": "en"}
    assert plan.table.drop_columns(["id", SOURCE]).to_pylist() == [nothing, said, nothing]


def test_a_cut_of_all_channels_is_their_mean(tmp_path):
    both = torch.stack([clip(1), clip(2)])
    save_audio(tmp_path / "a.wav", both, RATE)
    one = cut("x", source=tmp_path / "a.wav", type="MultiCut", channel=[0, 1])
    one["recording"]["sources"][0]["channels"] = [0, 1]
    plan = make_plan([cuts(tmp_path / "c.jsonl", one)])
    assert torch.equal(heard(rows(plan)["x"]), both.mean(0))


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ("no JSON", "line 2: expected a cut with id, start and duration, got 'no JSON"),
        (cut("x", start="soon"), "line 2: expected a cut"),
        ({"type": "MixedCut", "id": "x", "tracks": []}, "line 2: expected a cut with id, start and duration"),
        ([1], "line 2: expected a cut"),
        (cut("x", recording=None), "line 2: the cut 'x' has no recording that is one file; write its audio out with lhotse"),
        (cut("x", recording={"sources": [{"type": "command", "source": "cat"}]}), "no recording that is one file"),
        (cut("x", recording={"sources": [{"type": "file", "source": "a"}] * 2}), "no recording that is one file"),
        (cut("x", recording={"sources": [{"type": "file", "source": "a"}], "transforms": [{}]}), "a recording that lhotse changes"),
        (cut("x", recording={"sources": [{"type": "file", "source": "a", "channels": [0, 1]}]}), r"not all of its recording's channels \[0, 1\]"),
    ],
)
def test_a_cut_that_is_no_part_of_one_file_is_refused(tmp_path, second, what):
    refused(what, cuts(tmp_path / "c.jsonl", cut("w"), second) if second != "no JSON" else put(tmp_path / "c.jsonl", lines(cut("w")) + second))


def test_a_gzipped_manifest_that_was_cut_short_is_refused(tmp_path):
    path = cuts(tmp_path / "c.jsonl.gz", *[cut(os.urandom(64).hex()) for _ in range(2000)])
    os.truncate(path, path.stat().st_size // 2)
    refused(r"cannot read .*c\.jsonl\.gz: .*; give a whole file", path)
    os.truncate(path, 40)
    refused(r"none of \.tsv", path)


def shar(folder, name, archive):
    folder.mkdir(exist_ok=True)
    cuts(folder / f"cuts.{name}.jsonl.gz", *(cut(one, 3.0, said=[{"text": one}]) for one in archive))
    members = [pair for one, data in archive.items() for pair in ((f"{one}.flac", data), (f"{one}.json", "{}"))]
    return tar(folder / f"recording.{name}.tar", *members)


def test_a_shar_pairs_cuts_with_the_audio_of_their_archives(tmp_path):
    shar(tmp_path / "s", "000001", {"z": wav(3, format="flac")})
    shar(tmp_path / "s", "000000", {"y": wav(1, format="flac"), "d/x": wav(2, format="flac")})
    plan = make_plan([tmp_path / "s"])
    assert holds(plan, **{"y": 1, "d/x": 2, "z": 3})
    assert plan.table["text"].to_pylist() == ["y", "d/x", "z"]
    assert all(row.start is None and row.end is None for row in rows_of(plan.table))


def test_a_shar_that_does_not_match_is_refused(tmp_path):
    folder = tmp_path / "s"
    archive = shar(folder, "0", {"x": wav(1, format="flac"), "y": wav(2, format="flac")})
    cuts(folder / "cuts.0.jsonl.gz", cut("x"))
    refused(r"has 1 cuts, .*recording\.0\.tar 2 audio files; they must be as many", folder)
    cuts(folder / "cuts.0.jsonl.gz", cut("y"), cut("x"))
    refused(r"has the cut 'y' where .* has x\.flac; they must be alike", folder)
    cuts(folder / "cuts.0.jsonl.gz", cut("x"), cut("y"))
    os.truncate(archive, 1024)
    refused(r"cannot read .*recording\.0\.tar: .*; a Shar has recordings", folder)
    archive.rename(folder / "recording.1.tar")
    refused(r"cannot read .*recording\.0\.tar", folder)


# Plans


def table_of(names=("a", "b", "c"), **columns):
    return pa.table({"id": pa.array(names, pa.string()), SOURCE: locators([name.encode() for name in names]), **columns})


@pytest.mark.parametrize(("names", "what"), [(["a", None, None], "2 rows have no id"), (["a", ""], "1 rows have no id"), ([], "no utterance")])
def test_rows_need_ids(names, what):
    ids = pa.array(names, pa.string())
    with pytest.raises(CorpusError, match=what):
        Plan(pa.table({"id": ids, SOURCE: locators([b"a.wav"] * len(names))}))


def test_ids_are_unique_and_the_error_names_those_that_are_not():
    with pytest.raises(CorpusError, match=r"ids must be unique, 3 rows have an earlier row's: 'b', 'a', \.\.\.; rename them"):
        Plan(table_of(["b", "a", "b", "c", "b", "a"]))


@pytest.mark.parametrize("name", [name for name in RESERVED if name != SOURCE])
def test_columns_do_not_have_the_names_of_the_tokens_own(name):
    with pytest.raises(CorpusError, match=rf"columns \['{name}'\], names that the tokens' own columns have; rename them"):
        Plan(table_of(**{name: [1, 2, 3]}))


@pytest.mark.parametrize(("rows", "shards"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (9, [5])])
def test_a_plan_is_parted_by_its_rows(rows, shards):
    plan = Plan(table_of("abcde"), rows)
    parts = [plan.part(number) for number in range(plan.shards)]
    assert [len(part) for part in parts] == shards
    assert pa.concat_tables(parts).equals(plan.table)


def test_a_shard_has_a_row():
    with pytest.raises(CorpusError, match="a shard has 1 row or more, got 0"):
        Plan(table_of(), 0)
    assert Plan(table_of()).rows == 2048


def test_the_digest_is_of_the_rows_and_not_of_how_they_lie_in_memory():
    table = table_of("abcd", n=[1, None, 3, 4], tags=[["x"], [], None, ["y"]], raw=[b"\xff"] * 4)
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)]).replace_schema_metadata({"by": "hand"})
    digest = Plan(table, 2).digest()
    assert Plan(chunked, 2).digest() == Plan(pa.concat_tables([table, table]).slice(4), 2).digest() == digest
    assert digest_of(chunked) == digest_of(table)
    others = [
        Plan(table, 3),
        Plan(table.take([1, 0, 2, 3]), 2),
        Plan(table.set_column(2, "n", pa.array([1, 0, 3, 4])), 2),
        Plan(table.set_column(2, "n", pa.array([1, None, 3, 4], pa.int32())), 2),
        Plan(table.rename_columns(["id", SOURCE, "m", "tags", "raw"]), 2),
        Plan(table.set_column(1, SOURCE, locators([b"a", b"b", b"c", b"d"], start=[None, 0.5, None, None])), 2),
    ]
    assert len({digest, *(other.digest() for other in others)}) == 7


def test_the_digest_stays_what_it_was():
    assert Plan(table_of(n=[1.5, None, 3.0]), 2).digest() == "90fd7f184e4fe5fd0b0f3d667b047de2"  # a plan that was stored must be found again


def test_a_stored_plan_is_the_plan(tmp_path):
    plan = Plan(table_of("abcde", n=[1, 2, None, 4, 5], about=[{"x": [1.5]}] * 5).replace_schema_metadata({"by": "hand"}), 2)
    plan.save(store := Folder(tmp_path / "c"))
    stored = StoredPlan(store)
    assert (stored.rows, stored.shards, len(stored), stored.digest) == (2, 3, 5, plan.digest())
    for number in range(3):
        assert stored.part(number).to_pylist() == plan.part(number).to_pylist()
        assert digest_of(stored.part(number)) == digest_of(plan.part(number))
        assert rows_of(stored.part(number)) == rows_of(plan.part(number))


def test_a_plan_that_is_not_there_or_damaged_is_refused(tmp_path):
    store = Folder(tmp_path)
    with pytest.raises(CorpusError, match=r"no corpus was begun in .*; make one with: unitoken corpus encode"):
        StoredPlan(store)
    for damaged in (b"junk", pq_bytes(pa.table({"id": ["a"]}))):
        store.put("plan.parquet", damaged)
        with pytest.raises(CorpusError, match=r"plan\.parquet in .* is damaged .*; remove it and run again"):
            StoredPlan(store)


def pq_bytes(table):
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


# Audio of rows


def test_one_file_has_one_hash_wherever_it_lies(tmp_path, monkeypatch):
    path = put(tmp_path / "f/a.wav", wav(1))
    fsspec.filesystem("memory").pipe_file("/corpus-inputs/a.wav", wav(1))
    url = "memory://corpus-inputs/a.wav"
    plan = make_plan(
        [
            tmp_path / "f",
            tar(tmp_path / "a.tar", ("before.wav", wav(2)), ("t.wav", wav(1))),
            manifest(tmp_path / "m.parquet", audio=[wav(1)]),
            dataset(tmp_path / "d", pa.table({"id": ["d", "u"], "audio": [{"bytes": wav(1), "path": "x"}, {"bytes": None, "path": url}]})),
            manifest(tmp_path / "m.jsonl", audio=[url]),
        ]
    )
    found = {row.id: fetch(row) for row in rows_of(plan.table)}
    other = found.pop("before")
    assert list(found) == ["a.wav", "t", "m-0", "d", "u", url]
    assert {one.source_hash for one in found.values()} == {fetch(Row("x", os.fsencode(path))).source_hash} != {other.source_hash}
    assert all(torch.equal(hear(one, RATE).waveform, clip(1)) for one in found.values())
    assert all(len(one.source_hash) == 16 for one in found.values())
    monkeypatch.setattr(unitoken.corpus.media, "LARGE", 100)
    large = fetch(rows(plan)["a.wav"])
    assert (large.source, large.source_hash) == (str(path), found["a.wav"].source_hash)


def test_spans_have_hashes_of_their_own(tmp_path):
    path = os.fsencode(put(tmp_path / "a.wav", wav(1, 8000)))
    spans = [(None, None), (0.0, 0.5), (0.5, 1.0), (0.5, None), (0.5, 0.75), (None, 0.75)]
    assert len({fetch(Row("x", path, start=start, end=end)).source_hash for start, end in spans}) == len(spans)
    again = fetch(Row("y", path, start=None, end=0.5)).source_hash
    assert again == fetch(Row("z", path, start=0.0, end=0.5)).source_hash
    put(tmp_path / "a.wav", wav(2, 8001))
    assert fetch(Row("x", path, start=0.0, end=0.5)).source_hash != again


def test_audio_is_resampled_and_mixed(tmp_path):
    save_audio(tmp_path / "a.wav", torch.stack([clip(1), -clip(1)]), RATE)
    found = hear(fetch(Row("x", os.fsencode(tmp_path / "a.wav"))), 16000)
    assert (found.seconds, found.source, tuple(found.waveform.shape)) == (0.1, None, (1600,))
    assert not found.waveform.any()


@pytest.mark.parametrize("span", [(None, None), (0.25, 0.75)])
def test_what_is_long_is_left_to_be_read_in_blocks(tmp_path, monkeypatch, span):
    row = Row("x", os.fsencode(put(tmp_path / "a.wav", wav(1, 8000))), start=span[0], end=span[1])
    short = hear(fetch(row), RATE)
    monkeypatch.setattr(unitoken.corpus.media, "WHOLE_S", short.seconds)
    assert hear(fetch(row), RATE).waveform is not None
    monkeypatch.setattr(unitoken.corpus.media, "WHOLE_S", short.seconds - 0.01)
    long = hear(fetch(row), RATE)
    assert (long.waveform, long.seconds, long.source_hash) == (None, short.seconds, short.source_hash)
    assert torch.equal(torch.cat(list(audio_blocks(long.source, block_seconds=0.1))), short.waveform)


def test_an_archive_that_ends_early_fails_only_where_it_does(tmp_path):
    path = tar(tmp_path / "a.tar", ("a.wav", wav(1)), ("b.wav", wav(2)))
    plan = make_plan([path])
    os.truncate(path, rows(plan)["b"].offset + 100)
    assert torch.equal(heard(rows(plan)["a"]), clip(1))
    with pytest.raises(AudioFileError, match=r"a\.tar ends before b, which it should hold; take another copy"):
        fetch(rows(plan)["b"])


def test_what_is_not_there_is_an_error_of_its_row(tmp_path):
    with pytest.raises(AudioFileError, match=r"no such file: .*/gone\.wav; check the path"):
        fetch(Row("x", os.fsencode(tmp_path / "gone.wav")))
    for row in (Row("x", os.fsencode(tmp_path)), Row("x", os.fsencode(tmp_path), start=0.0), Row("x", b"/gone.tar", offset=0, size=1)):
        with pytest.raises(OSError, match=re.escape(os.fsdecode(row.path))):
            fetch(row)
    with pytest.raises(AudioError, match="cannot decode"):
        hear(fetch(Row("x", os.fsencode(put(tmp_path / "a.wav", "no audio")))), RATE)
    with pytest.raises(AudioError, match=r"is not there: the file has 0\.10 s"):
        hear(fetch(Row("x", os.fsencode(put(tmp_path / "a.wav", wav(1))), start=3.0)), RATE)


def test_a_row_of_a_table_without_audio_fails_alone(tmp_path):
    structs = [{"bytes": wav(1), "path": None}, {"bytes": None, "path": None}, None, {"bytes": None, "path": "gone.wav"}]
    for path in (manifest(tmp_path / "m.parquet", audio=structs), dataset(tmp_path / "d", pa.table({"audio": structs}))):
        whole, *others, gone = rows_of(make_plan([path]).table)
        assert torch.equal(heard(whole), clip(1))
        for index, row in enumerate(others, 1):
            with pytest.raises(CorpusError, match=f"row {index} of .* has no audio in its column 'audio'; fill it in"):
                fetch(row)
        with pytest.raises(AudioFileError, match=r"no such file: .*-3 in "):
            fetch(gone)


def test_a_table_that_was_changed_since_fails_with_what_to_do(tmp_path):
    for number, change in enumerate([{"audio": [wav(1)]}, {"other": [wav(1)] * 3}]):
        plan = make_plan([manifest(tmp_path / f"{number}.parquet", audio=[wav(1)] * 3)])
        manifest(tmp_path / f"{number}.parquet", **change)
        with pytest.raises(CorpusError, match="has no row 2 with a column 'audio'; put back the file"):
            fetch(rows(plan)[f"{number}-2"])


def test_a_length_far_below_the_headers_is_refused():
    row = Row("x", b"a.tar", offset=0, size=1)
    for seconds, header in ((9.71, 10.0), (0.0, 0.1), (11.0, 10.0)):
        check_length(row, seconds, header)
    with pytest.raises(AudioFileError, match=r"x in a\.tar is cut short: 9\.7 s of 10\.0 s can be decoded; take another copy"):
        check_length(row, 9.69, 10.0)


def test_errors_name_a_file_or_the_row_of_what_holds_it():
    assert shown(Row("x", b"caf\xe9.wav")) == r"caf\xe9.wav"
    assert shown(Row("x", b"a.tar", offset=0, size=1)) == "x in a.tar"
    assert shown(Row("x", b"m.parquet", index=0, column="audio")) == "x in m.parquet"


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    (row,) = rows_of(make_plan([tmp_path]).table)
    with pytest.raises(AudioFileError, match=r"a\.wav is no file but a folder, pipe or device"):
        fetch(row)

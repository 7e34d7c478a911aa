import dataclasses
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import models
from hub_server import HubServer, local_hub
from unitoken import hub
from unitoken.errors import ConfigError, ModelError
from unitoken.presets import preset

CONFIG = preset("tiny")
REPO = "org/name"


def random_state(seed=0):
    rng = torch.Generator().manual_seed(seed)
    return {
        "encoder.weight": torch.randn(3, 4, generator=rng),
        "encoder.bias": torch.randn(3, generator=rng),
        "codebook.counts": torch.arange(5) + seed,
    }


def equal(one, other):
    return one.keys() == other.keys() and all(one[k].dtype == other[k].dtype and torch.equal(one[k], other[k]) for k in one)


def edit_config(folder, **changes):
    path = folder / hub.CONFIG
    layout = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in layout.items() if value is not None}))


def refused(text):
    """Expect a ModelError whose text holds exactly these words."""
    return pytest.raises(ModelError, match=re.escape(text))


@pytest.fixture
def folder(tmp_path):
    """A saved model."""
    hub.save_stored(tmp_path / "saved", CONFIG, random_state())
    return tmp_path / "saved"


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A package with the models `other-1` (seed 1) and the default one (seed 2), and a folder that holds none."""
    root = tmp_path / "weights"
    hub.save_stored(root / hub.DEFAULT_MODEL, CONFIG, random_state(2))
    hub.save_stored(root / "other-1", CONFIG, random_state(1))
    (root / "unfinished").mkdir()
    monkeypatch.setattr(hub, "WEIGHTS_ROOT", root)
    return root


@pytest.fixture
def no_sockets(monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("network used")

    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(socket, "create_connection", forbidden)


@pytest.fixture
def server(tmp_path, monkeypatch):
    yield from local_hub(tmp_path, monkeypatch)


def test_the_endpoint_of_the_environment_is_asked(tmp_path):
    """In a process of its own, as a user sets it: the library and the command line."""
    script = """
import sys
from unitoken import Tokenizer
from unitoken.cli import app
first, second = sys.argv[1:]
print(Tokenizer.from_pretrained("org/name").fingerprint)
print(Tokenizer.from_pretrained("org/name", revision=first).fingerprint)
print(Tokenizer.from_pretrained("org/name", revision=first, local_files_only=True).fingerprint)
sys.argv = ["unitoken", "info", "org/name", "--revision", first, "--json"]
app()
"""
    folders = tmp_path / "first", tmp_path / "second"
    fingerprints = [hub.save_stored(path, models.TINY, models.codec(seed=seed).state_dict()) for seed, path in enumerate(folders)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    with HubServer() as running:
        commits = [running.publish("org/name", path) for path in folders]
        environment |= {"HF_ENDPOINT": running.url, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run([sys.executable, "-c", script, *commits], capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    new, old, cached, *facts = done.stdout.splitlines()
    assert [old, cached, new] == [fingerprints[0], fingerprints[0], fingerprints[1]]
    assert json.loads("".join(facts))["fingerprint"] == fingerprints[0]


@pytest.fixture
def versions(tmp_path):
    """Two folders with different weights and the same configuration."""
    folders = tmp_path / "first", tmp_path / "second"
    for seed, path in enumerate(folders):
        hub.save_stored(path, CONFIG, random_state(seed))
    return folders


# Saving and loading


def test_float32_round_trip_is_exact(tmp_path):
    state = random_state() | {"scalar": torch.tensor(0.5), "empty": torch.zeros(0, 3), "mask": torch.tensor([True, False])}
    fingerprint = hub.save_stored(tmp_path, CONFIG, state, dtype=torch.float32)
    stored = hub.load_stored(tmp_path)
    assert stored.config == CONFIG
    assert stored.fingerprint == fingerprint
    assert equal(stored.state, state)


def test_default_is_float16_and_integers_stay(folder):
    state = random_state()
    expected = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    assert equal(hub.load_stored(folder).state, expected)


def test_views_and_shared_memory_are_stored_whole(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    state = {"base": base, "transposed": base.T, "column": base[:, 1], "parameter": torch.nn.Parameter(base)}
    hub.save_stored(tmp_path, CONFIG, state, dtype=torch.float32)
    assert equal(hub.load_stored(tmp_path).state, {name: tensor.detach().contiguous() for name, tensor in state.items()})


def test_saving_leaves_two_files_and_the_documented_layout(folder):
    assert sorted(path.name for path in folder.iterdir()) == [hub.CONFIG, hub.WEIGHTS]
    digest = hashlib.sha256((folder / hub.WEIGHTS).read_bytes()).hexdigest()
    codec = json.loads(CONFIG.to_json())
    assert json.loads((folder / hub.CONFIG).read_text()) == {"format_version": 1, "codec": codec, "sha256": {hub.WEIGHTS: digest}}


def test_fingerprint_is_the_documented_hash(folder):
    digest = hashlib.sha256((folder / hub.WEIGHTS).read_bytes()).hexdigest()
    canonical = json.dumps(dataclasses.asdict(CONFIG), sort_keys=True, separators=(",", ":"))
    assert hub.load_stored(folder).fingerprint == hashlib.sha256(f"1\n{canonical}\n{digest}".encode()).hexdigest()[:32]


def test_fingerprint_ignores_order_and_layout_of_the_json(folder):
    before = hub.load_stored(folder).fingerprint
    layout = json.loads((folder / hub.CONFIG).read_text())
    layout["codec"] = dict(reversed(layout["codec"].items()))
    (folder / hub.CONFIG).write_text(json.dumps(layout, indent=7))
    assert hub.load_stored(folder).fingerprint == before


def test_fingerprint_depends_on_weights_and_config(tmp_path):
    renamed = dataclasses.replace(CONFIG, name="tiny-2")
    calls = [(CONFIG, 0, torch.float16), (CONFIG, 1, torch.float16), (renamed, 0, torch.float16), (CONFIG, 0, torch.float32)]
    assert len({hub.save_stored(tmp_path, config, random_state(seed), dtype=dtype) for config, seed, dtype in calls}) == len(calls)


@settings(max_examples=15, deadline=None)
@given(st.permutations(["b", "a", "d", "c"]), st.integers(0, 3))
def test_equal_weights_give_equal_bytes_in_any_order(tmp_path_factory, names, seed):
    state = {name: torch.full((2,), float(ord(name) + seed)) for name in names}
    one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    assert hub.save_stored(one, CONFIG, state) == hub.save_stored(other, CONFIG, dict(sorted(state.items())))
    assert (one / hub.WEIGHTS).read_bytes() == (other / hub.WEIGHTS).read_bytes()


def test_saving_does_not_touch_the_weights_given(tmp_path):
    state = random_state()
    hub.save_stored(tmp_path, CONFIG, state)
    assert equal(state, random_state())


def test_saving_replaces_the_model_before(folder):
    fingerprint = hub.save_stored(folder, CONFIG, random_state(5))
    assert hub.load_stored(folder).fingerprint == fingerprint
    assert torch.equal(hub.load_stored(folder).state["codebook.counts"], torch.arange(5) + 5)


@pytest.mark.parametrize("survivor", [0, 1])
def test_an_interrupted_save_never_loads_as_something_else(folder, monkeypatch, survivor):
    done = []
    replace = hub.os.replace

    def failing(source, target):
        if len(done) == survivor:
            raise OSError("disk full")
        done.append(Path(target).name)
        replace(source, target)

    before = hub.load_stored(folder).fingerprint
    monkeypatch.setattr(hub.os, "replace", failing)
    with pytest.raises(OSError, match="disk full"):
        hub.save_stored(folder, CONFIG, random_state(1))
    assert sorted(path.name for path in folder.iterdir()) == [hub.CONFIG, hub.WEIGHTS]
    if survivor == 0:
        assert hub.load_stored(folder).fingerprint == before
    else:
        assert done == [hub.WEIGHTS]
        with refused("expected sha256"):
            hub.load_stored(folder)


def test_values_beyond_float16_are_refused(tmp_path):
    with refused("weight 'big' has values that cannot be stored: too large for torch.float16, store it as torch.float32"):
        hub.save_stored(tmp_path / "new", CONFIG, {"big": torch.tensor([1e5])})
    assert not (tmp_path / "new").exists()
    hub.save_stored(tmp_path / "new", CONFIG, {"big": torch.tensor([1e5])}, dtype=torch.float32)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    with refused("weight 'odd' has values that cannot be stored: NaN or infinite"):
        hub.save_stored(tmp_path, CONFIG, {"odd": torch.tensor([0.0, value])}, dtype=torch.float32)


def test_other_data_types_are_refused(tmp_path):
    with refused("weights are stored as torch.float16 or torch.float32, got torch.float64"):
        hub.save_stored(tmp_path, CONFIG, random_state(), dtype=torch.float64)


# Damaged and foreign folders


def test_every_kind_of_changed_weights_is_refused(folder):
    good = (folder / hub.WEIGHTS).read_bytes()
    expected = hashlib.sha256(good).hexdigest()
    for bad in (good[:-1], good + b"\0", bytes([good[0] ^ 1]) + good[1:], good[:-1] + bytes([good[-1] ^ 1]), b""):
        (folder / hub.WEIGHTS).write_bytes(bad)
        got = hashlib.sha256(bad).hexdigest()
        with refused(f"{folder / hub.WEIGHTS} is not the file that config.json names: expected sha256 {expected}, got {got}; copy or export"):
            hub.load_stored(folder)


@pytest.mark.parametrize("file", [hub.CONFIG, hub.WEIGHTS])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with refused(f"{folder} holds no {file}; a model folder holds config.json and model.safetensors"):
        hub.load_stored(folder)


def test_a_folder_in_place_of_a_file_is_an_error(folder):
    (folder / hub.WEIGHTS).unlink()
    (folder / hub.WEIGHTS).mkdir()
    with refused(f"{folder / hub.WEIGHTS} cannot be read"):
        hub.load_stored(folder)


@pytest.mark.parametrize("version", [0, 2, "1", []])
def test_other_format_versions_are_refused(folder, version):
    edit_config(folder, format_version=version, new_key=1)
    with refused(f"has format_version {version!r}, this release reads 1; a newer release may read it: pip install --upgrade unitoken-speech"):
        hub.load_stored(folder)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"format_version": None}, "has no format_version, so it is not the configuration of a unitoken model"),
        ({"codec": None}, "1 missing (codec)"),
        ({"sha256": None}, "1 missing (sha256)"),
        ({"extra": 1}, "1 unexpected (extra)"),
        ({"sha256": {}}, "gives no sha256 of model.safetensors, got {}"),
        ({"sha256": "abc"}, "gives no sha256 of model.safetensors, got 'abc'"),
    ],
)
def test_other_layouts_are_refused(folder, changes, text):
    edit_config(folder, **changes)
    with refused(text) as caught:
        hub.load_stored(folder)
    assert str(folder / hub.CONFIG) in str(caught.value)


@pytest.mark.parametrize(("data", "text"), [(b"{", "is no JSON"), (b"\xff\xfe\xff", "is no JSON"), (b"[1]", "has no format_version")])
def test_a_config_that_is_no_json_object_is_refused(folder, data, text):
    (folder / hub.CONFIG).write_bytes(data)
    with refused(f"{folder / hub.CONFIG} {text}"):
        hub.load_stored(folder)


def test_a_codec_that_cannot_be_built_names_its_file(folder):
    edit_config(folder, codec={"hopp": 1})
    with pytest.raises(ConfigError, match=re.escape(f"{folder / hub.CONFIG}: config has unknown keys ['hopp']")):
        hub.load_stored(folder)


def test_weights_that_are_no_safetensors_are_refused(folder):
    data = b"\x80\x04K\x01."  # a pickle of 1
    (folder / hub.WEIGHTS).write_bytes(data)
    edit_config(folder, sha256={hub.WEIGHTS: hashlib.sha256(data).hexdigest()})
    with refused(f"{folder / hub.WEIGHTS} is no safetensors file"):
        hub.load_stored(folder)


# Which model a name means


def test_available_models_are_the_folders_with_a_config(packaged):
    assert hub.available_models() == ("other-1", hub.DEFAULT_MODEL)


def test_without_packaged_models_the_list_is_empty_and_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "WEIGHTS_ROOT", tmp_path / "nothing")
    assert hub.available_models() == ()
    with refused(f"unknown model {hub.DEFAULT_MODEL!r}; packaged models: none; a folder or a Hub repository 'org/name' works too"):
        hub.load_stored(None)


def test_packaged_models_and_folders_load_without_sockets(packaged, folder, no_sockets):
    assert torch.equal(hub.load_stored(None).state["codebook.counts"], torch.arange(5) + 2)
    assert hub.load_stored(hub.DEFAULT_MODEL).fingerprint == hub.load_stored().fingerprint
    assert torch.equal(hub.load_stored("other-1", local_files_only=True).state["codebook.counts"], torch.arange(5) + 1)
    assert hub.load_stored(folder).fingerprint == hub.load_stored(str(folder)).fingerprint


def test_packaged_models_and_folders_do_not_import_the_hub_client(packaged):
    code = f"""
import pathlib, socket, sys
from unitoken import hub
hub.WEIGHTS_ROOT = pathlib.Path({str(packaged)!r})
socket.socket = None
print(hub.load_stored().fingerprint, hub.load_stored({str(packaged / hub.DEFAULT_MODEL)!r}).fingerprint, "huggingface_hub" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, timeout=300)
    fingerprint = hub.load_stored().fingerprint
    assert (result.stdout.split(), result.stderr) == ([fingerprint, fingerprint, "False"], "")


def test_a_folder_that_looks_like_a_repository_is_a_folder(tmp_path, monkeypatch, no_sockets):
    fingerprint = hub.save_stored(tmp_path / "org" / "name", CONFIG, random_state())
    monkeypatch.chdir(tmp_path)
    assert hub.load_stored(REPO).fingerprint == fingerprint
    assert hub.load_stored("./org/name").fingerprint == fingerprint


def test_a_folder_with_a_packaged_name_needs_a_path(packaged, tmp_path, monkeypatch):
    mine = hub.save_stored(tmp_path / "here" / hub.DEFAULT_MODEL, CONFIG, random_state(9))
    monkeypatch.chdir(tmp_path / "here")
    assert hub.load_stored(hub.DEFAULT_MODEL).fingerprint != mine
    assert hub.load_stored(f"./{hub.DEFAULT_MODEL}").fingerprint == hub.load_stored(Path(hub.DEFAULT_MODEL)).fingerprint == mine


@pytest.mark.parametrize(
    "name", ["", "small-0", "unfinished", "../nothing", "./org/name", "a/b/c", "org/", "/org/name", "org/na me", "é/è", Path("org/name")]
)
def test_unknown_names_are_refused_without_network(packaged, no_sockets, tmp_path, monkeypatch, name):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with refused(f"unknown model {str(name)!r}; packaged models: other-1, {hub.DEFAULT_MODEL}; a folder or a Hub repository 'org/name' works too"):
        hub.load_stored(name)


def test_a_revision_is_for_the_hub_only(packaged, folder):
    for name in (hub.DEFAULT_MODEL, None, folder):
        with refused("revision 'v1' was given, but"):
            hub.load_stored(name, revision="v1")


def test_damaged_packaged_weights_say_install_again(packaged):
    (packaged / hub.DEFAULT_MODEL / hub.WEIGHTS).write_bytes(b"cut short")
    with refused("install the package again: pip install --force-reinstall unitoken-speech"):
        hub.load_stored()


# The Hub


def test_revisions_are_branches_tags_and_commits(server, versions):
    commits = [server.publish(REPO, path, revision=name) for path, name in zip(versions, ["v1", "main"], strict=True)]
    first, second = (hub.load_stored(path) for path in versions)
    assert first.fingerprint != second.fingerprint
    for revision, expected in [(None, second), ("main", second), ("v1", first), (commits[0], first), (commits[1], second)]:
        stored = hub.load_stored(REPO, revision=revision)
        assert stored.fingerprint == expected.fingerprint
        assert equal(stored.state, expected.state)


def test_a_moved_branch_is_followed(server, versions):
    for path in versions:
        server.publish(REPO, path)
        assert hub.load_stored(REPO).fingerprint == hub.load_stored(path).fingerprint


def test_a_branch_that_moves_between_the_two_files_gives_one_commit(server, versions):
    server.publish(REPO, versions[0])
    moved = []

    def move(method, file):
        if file == hub.WEIGHTS and not moved:
            moved.append(server.publish(REPO, versions[1]))

    server.before = move
    assert hub.load_stored(REPO).fingerprint == hub.load_stored(versions[0]).fingerprint
    assert hub.load_stored(REPO).fingerprint == hub.load_stored(versions[1]).fingerprint
    assert len(moved) == 1


def test_files_of_two_commits_are_refused(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repo, file, **_: str(tmp_path / ("a" if file == hub.CONFIG else "b") / file))
    with refused("files of two commits of 'org/name': config.json is of commit a, model.safetensors of b"):
        hub.load_stored(REPO)


@pytest.mark.parametrize("name", ["main", "v1"])
def test_the_second_load_needs_no_server(server, versions, name):
    commit = server.publish(REPO, versions[0], revision=name)
    fingerprint = hub.load_stored(REPO, revision=name).fingerprint
    asked = len(server.requests)
    assert hub.load_stored(REPO, revision=name, local_files_only=True).fingerprint == fingerprint
    assert len(server.requests) == asked
    server.stop()
    for revision in (name, commit):
        assert hub.load_stored(REPO, revision=revision, local_files_only=True).fingerprint == fingerprint
    assert hub.load_stored(REPO, revision=name).fingerprint == fingerprint  # nobody answers: the cache does


def test_what_is_not_cached_is_named_when_the_network_is_forbidden(server, versions, no_sockets):
    server.publish(REPO, versions[0])
    with refused(
        "config.json of 'org/name' at revision 'main' is not in the local cache and local_files_only=True forbids the network; "
        "load it once with network, or copy the model folder and give its path"
    ):
        hub.load_stored(REPO, local_files_only=True)


def test_weights_that_are_not_cached_are_named_too(server, versions, tmp_path):
    commit = server.publish(REPO, versions[0])
    hub.load_stored(REPO)
    next((tmp_path / "cache").rglob(hub.WEIGHTS)).unlink()
    with refused(f"model.safetensors of 'org/name' at revision '{commit}' is not in the local cache"):
        hub.load_stored(REPO, local_files_only=True)


def test_a_missing_repository_is_named(server):
    with refused("no model 'org/name' at revision 'v1': no folder of that name here, and no Hub repository that you may read"):
        hub.load_stored(REPO, revision="v1")


def test_a_missing_revision_is_named(server, versions):
    server.publish(REPO, versions[0])
    with refused("no model 'org/name' at revision 'v9': the repository has no such revision"):
        hub.load_stored(REPO, revision="v9")


@pytest.mark.parametrize("file", [hub.CONFIG, hub.WEIGHTS])
def test_a_missing_file_of_a_repository_is_named(server, versions, file):
    (versions[0] / file).unlink()
    commit = server.publish(REPO, versions[0])
    revision = "main" if file == hub.CONFIG else commit
    with refused(f"'org/name' at revision '{revision}' holds no {file}, so it is no unitoken model"):
        hub.load_stored(REPO)


def test_wrong_weights_from_the_hub_are_refused_and_the_advice_works(server, versions, tmp_path):
    good = {path.name: path.read_bytes() for path in versions[0].iterdir()}
    bad = good | {hub.WEIGHTS: (versions[1] / hub.WEIGHTS).read_bytes()}
    expected, got = (hashlib.sha256(files[hub.WEIGHTS]).hexdigest() for files in (good, bad))
    server.publish(REPO, bad)
    with refused(f"model.safetensors is not the file that config.json names: expected sha256 {expected}, got {got}; delete ") as caught:
        hub.load_stored(REPO)
    cache = Path(re.search(r"delete (\S+) and load again", str(caught.value)).group(1))
    assert cache.parent == tmp_path / "cache"
    shutil.rmtree(cache)
    server.publish(REPO, good)
    assert hub.load_stored(REPO).fingerprint == hub.load_stored(versions[0]).fingerprint


def test_any_other_failure_of_the_client_says_what_it_was(monkeypatch):
    import huggingface_hub

    def failing(*args, **kwargs):
        raise RuntimeError("certificate expired")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", failing)
    with refused("config.json of 'org/name' at revision 'main' could not be downloaded (RuntimeError: certificate expired)") as caught:
        hub.load_stored(REPO)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_hub_that_does_not_answer_says_so(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def failing(*args, **kwargs):
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", failing)
    with refused("config.json of 'org/name' at revision 'main' is not in the local cache and the Hub cannot be reached"):
        hub.load_stored(REPO)


def test_names_that_the_client_refuses_are_model_errors(server):
    with refused("config.json of 'org/a..b' at revision 'main' could not be downloaded (HFValidationError"):
        hub.load_stored("org/a..b")


# Into a module


class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Linear(4, 3)
        self.codebook = torch.nn.Module()
        self.codebook.register_buffer("counts", torch.zeros(5, dtype=torch.int64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_load_into_gives_float32_weights(tmp_path, dtype):
    hub.save_stored(tmp_path, CONFIG, random_state(), dtype=dtype)
    module = Module()
    hub.load_into(module, hub.load_stored(tmp_path))
    expected = {name: tensor.to(dtype).float() if tensor.is_floating_point() else tensor for name, tensor in random_state().items()}
    assert equal(module.state_dict(), expected)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"encoder.bias": None}, "weights of 'tiny' do not match: 1 missing (encoder.bias); use"),
        ({"other": torch.zeros(1)}, "weights of 'tiny' do not match: 1 unexpected (other); use"),
        ({"encoder.bias": torch.zeros(1)}, "weights of 'tiny' have wrong shapes: encoder.bias is (1,), the model needs (3,); weights and"),
        ({"encoder.weight": torch.zeros(4, 3)}, "encoder.weight is (4, 3), the model needs (3, 4)"),
    ],
)
def test_weights_that_do_not_fit_leave_the_module_alone(changes, text):
    module = Module()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = {name: tensor for name, tensor in (random_state() | changes).items() if tensor is not None}
    with refused(text):
        hub.load_into(module, hub.Stored(CONFIG, state, "0" * 32))
    assert equal(module.state_dict(), before)


def test_check_keys_takes_any_order_and_any_iterable():
    hub.check_keys(["a", "b"], (name for name in "ba"), "weights")
    with refused("weights do not match: 1 missing (b), 1 unexpected (c); use the two files of one model"):
        hub.check_keys(iter("ab"), iter("ca"), "weights")


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from("abcdefgh")), st.sets(st.sampled_from("abcdefgh")))
def test_check_keys_names_up_to_three_of_each(expected, got):
    if expected == got:
        hub.check_keys(expected, got, "here")
        return
    with refused("here do not match: ") as caught:
        hub.check_keys(expected, got, "here")
    for kind, names in (("missing", sorted(expected - got)), ("unexpected", sorted(got - expected))):
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        assert (f"{len(names)} {kind} ({shown})" in str(caught.value)) == bool(names)

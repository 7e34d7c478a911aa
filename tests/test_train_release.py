import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

from hub_server import WRITER, local_hub
from trainset import buzz, make_codec
from unitoken import TokenBundle, Tokenizer
from unitoken.cli.train import app
from unitoken.errors import ModelError
from unitoken.train.export import export_codec
from unitoken.train.release import CARD, CLIP, TOKENS, check_golden, publish

FILES = {CARD, CLIP, TOKENS, "config.json", "model.safetensors"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    export_codec(make_codec(), folder, name="mine-1", clip=torch.from_numpy(buzz(2, 150)))
    return folder


@pytest.fixture
def model(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "model")


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", WRITER)
    yield from local_hub(tmp_path, monkeypatch)


def test_an_exported_folder_holds_golden_tokens(exported):
    tokenizer = Tokenizer.from_pretrained(exported)
    golden = TokenBundle.load(exported / TOKENS)
    assert golden.num_samples == 32000
    assert golden == tokenizer.encode(exported / CLIP)
    assert check_golden(exported) == {"s": (0, 50), "p": (0, 50), "g": (0, 2)}


def test_other_tokens_are_found(model):
    golden = TokenBundle.load(model / TOKENS)
    p = golden.p.clone()
    p[7] = (p[7] + 1) % 64
    golden.replace(p=p).save(model / TOKENS)
    with pytest.raises(ModelError, match=r"makes other tokens of golden.flac than it should: \{'p': '1 of 50'\}; do not use it"):
        check_golden(model)


def test_a_flip_in_a_hundred_is_let_pass(tmp_path):
    export_codec(make_codec(), tmp_path, name="mine-1", clip=torch.from_numpy(buzz(5, 150)))
    golden = TokenBundle.load(tmp_path / TOKENS)
    s = golden.s.clone()
    s[7] = (s[7] + 1) % 64
    golden.replace(s=s).save(tmp_path / TOKENS)
    assert check_golden(tmp_path)["s"] == (1, 125)


def test_golden_tokens_of_another_model_or_of_none_are_refused(model, tmp_path):
    export_codec(make_codec(3), tmp_path / "other", name="mine-1")
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(tmp_path / "other" / name, model / name)
    with pytest.raises(ModelError, match=r"golden\.utok in .* is of the model"):
        check_golden(model)
    (model / TOKENS).unlink()
    with pytest.raises(ModelError, match=r"has no golden\.utok, so nobody can tell whether it works; export it"):
        check_golden(model)
    short = tmp_path / "other"
    shutil.copyfile(model / CLIP, short / CLIP)
    with pytest.raises(ModelError, match=r"becomes \(50,\) tokens of s, golden\.utok has \(75,\)"):
        check_golden(short)


def test_what_is_pushed_is_what_others_load(model, server):
    commit = publish(model, "org/new")
    assert server.messages == [f"mine-1 {Tokenizer.from_pretrained(model).fingerprint}"]
    assert {file for file in FILES if server.find("org/new", "main", file)[0] == 200} == FILES
    assert server.find("org/new", commit, "model.safetensors")[2] == (model / "model.safetensors").read_bytes()
    wave = buzz(1, 170)
    ours, theirs = (Tokenizer.from_pretrained(name).encode(wave, sample_rate=16000) for name in (model, "org/new"))
    assert ours == theirs
    card = (model / CARD).read_text()
    assert 'Tokenizer.from_pretrained("org/new")' in card
    assert card.startswith("---\nlicense: apache-2.0\n")


def test_a_second_push_goes_into_the_same_repository_and_a_card_is_kept(model, server):
    (model / CARD).write_text("mine\n")
    first = publish(model, "org/new", revision="dev", message="first")
    export_codec(make_codec(5), model, name="mine-2")
    second = publish(model, "org/new", revision="dev", message="second")
    assert first != second
    assert server.messages == ["first", "second"]
    assert server.find("org/new", "dev", CARD)[2] == b"mine\n"
    assert server.find("org/new", "main", "model.safetensors")[0] == 404
    assert Tokenizer.from_pretrained("org/new", revision=first).config.name == "mine-1"
    assert Tokenizer.from_pretrained("org/new", revision="dev").config.name == "mine-2"


def test_nothing_is_pushed_that_is_broken_or_not_allowed(model, server, monkeypatch):
    with pytest.raises(ModelError, match="a Hub repository is named org/name, got 'new'"):
        publish(model, "new")
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    with pytest.raises(
        ModelError,
        match=r"could not be pushed to .org/new. \(HfHubHTTPError: .*Unauthorized.*\); if .*: hf auth login",
    ):
        publish(model, "org/new")
    monkeypatch.setenv("HF_TOKEN", WRITER)
    (model / CLIP).unlink()
    with pytest.raises(ModelError, match=r"has no golden\.flac"):
        publish(model, "org/new")
    assert [path for method, path in server.requests if method == "POST" and path != "repos/create"] == []
    assert server.messages == []


def test_a_hub_that_gives_back_something_else_is_noticed(model, tmp_path, server):
    export_codec(make_codec(5), tmp_path / "other", name="mine-2")

    def meddle(method, file):
        if method == "HEAD" and file == "config.json":
            for commit, files in server._files.items():
                if "config.json" in files:
                    server._files[commit] = files | {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()}

    server.before = meddle
    with pytest.raises(ModelError, match=r"gives the model \w+, pushed was \w+; push it again"):
        publish(model, "org/new")


def test_the_command(model, server):
    said = CliRunner().invoke(app, ["publish", str(model), "org/new", "--private", "--message", "one"], catch_exceptions=False).output
    commit = server.find("org/new", "main", "config.json")[1]["X-Repo-Commit"]
    assert said == f'Tokenizer.from_pretrained("org/new", revision="{commit}")\n'
    assert json.loads(server.find("org/new", "main", "config.json")[2])["codec"]["name"] == "mine-1"

import json

import pytest
import torch

from trainset import buzz, make_pool, make_teacher
from unitoken.errors import MissingDependencyError, TrainError
from unitoken.train import features
from unitoken.train.features import FeatureCache, at_hop, compute_features
from unitoken.train.sampling import Crop
from unitoken.train.targets import Projection
from unitoken.train.teachers import load_teacher

KINDS = ("whisper", "wav2vec2", "hubert", "wavlm", "wav2vec2-bert")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("teachers")
    return {kind: make_teacher(kind, root / kind) for kind in KINDS}


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return make_pool(tmp_path_factory.mktemp("data"), 3, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_gives_features_at_its_rate(folders, kind):
    teacher = load_teacher(folders[kind])
    assert (teacher.name, teacher.dim, teacher.frame_rate) == (f"{kind}#2", 24, 50)
    for samples in (16000, 12345):
        found = teacher.features(0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(0)))
        assert found.shape == (2, samples * 50 // 16000, 24)
        assert found.dtype == torch.float32
        assert not found.requires_grad
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_a_whisper_teacher_may_compute_in_bfloat16_and_others_do_not(folders):
    wave = 0.1 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    exact, coarse = (load_teacher(folders["whisper"], bfloat16=low).features(wave) for low in (False, True))
    assert coarse.dtype == torch.float32
    assert torch.equal(coarse, coarse.bfloat16().float())
    assert 0 < float((coarse - exact).square().mean() / exact.var()) < 0.01
    for kind in KINDS[1:]:
        assert torch.equal(load_teacher(folders[kind], bfloat16=True).features(wave), load_teacher(folders[kind]).features(wave))


@pytest.mark.parametrize("kind", KINDS)
def test_layers_differ_and_are_checked(folders, kind):
    wave = 0.1 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    first, last = load_teacher(folders[kind], 0).features(wave), load_teacher(folders[kind], 2).features(wave)
    assert not torch.equal(first, last)
    assert torch.equal(last, load_teacher(folders[kind]).features(wave))
    with pytest.raises(TrainError, match="has layers 0 to 2, not 3"):
        load_teacher(folders[kind], 3)


def test_w2v_bert_agrees_with_transformers(folders):
    """Its own extractor and model, without padding; the 2 s of silence change nothing, since the model is told of them."""
    import transformers

    wave = torch.from_numpy(buzz(1.3, 140))[None]
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folders["wav2vec2-bert"])
    model = transformers.AutoModel.from_pretrained(folders["wav2vec2-bert"]).eval()
    with torch.no_grad():
        expected = model(**extractor(wave[0].numpy(), sampling_rate=16000, return_tensors="pt"), output_hidden_states=True).hidden_states[1]
    found = load_teacher(folders["wav2vec2-bert"], 1).features(wave)
    assert found.shape == (1, 65, 24)
    assert expected.shape == (1, 64, 24)
    torch.testing.assert_close(found[:, :64], expected, atol=2e-4, rtol=2e-3)


def test_whisper_agrees_with_transformers_on_30_s(folders):
    import transformers

    wave = 0.1 * torch.randn(1, 28 * 16000, generator=torch.Generator().manual_seed(0))
    ours = load_teacher(folders["whisper"])
    theirs = transformers.WhisperFeatureExtractor.from_pretrained(folders["whisper"])(wave[0].numpy(), sampling_rate=16000, return_tensors="pt")
    mel = ours.log_mel(wave)
    assert (mel[..., :2790] - theirs["input_features"][..., :2790]).abs().max() < 1e-3
    model = transformers.WhisperModel.from_pretrained(folders["whisper"]).eval()
    with torch.no_grad():
        states = model.encoder(theirs["input_features"], output_hidden_states=True).hidden_states
    for layer, expected in ((None, states[-1]), (1, states[1])):
        assert (load_teacher(folders["whisper"], layer).features(wave)[0, :1390] - expected[0, :1390]).abs().max() < 1e-3
    with pytest.raises(TrainError, match=r"30\.0 s is longer"):
        ours.features(torch.zeros(1, 30 * 16000))


def test_loading_a_teacher_leaves_torch_as_it_is(folders):
    from torch.utils import _device

    _device._device_constructors.cache_clear()  # as in a process that has named no device yet
    load_teacher(folders["whisper"])
    with torch.device("meta"):
        assert torch.linspace(0, 1, 3).device.type == "meta"


def test_a_model_of_another_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(TrainError, match="bert model; teachers are whisper, wav2vec2, hubert, wavlm and wav2vec2-bert"):
        load_teacher(tmp_path)


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"unitoken-speech\[teachers\]"):
        load_teacher("any")


def test_features_are_averaged_to_the_hop():
    features = torch.arange(5.0)[:, None].expand(-1, 2)
    assert at_hop(features, 50, 4, 640)[:, 0].tolist() == [0.5, 2.5, 4.0, 4.0]
    assert at_hop(features[:0], 50, 2, 640).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(TrainError, match="a teacher at 50 Hz cannot be averaged into frames of 500 samples"):
        at_hop(features, 50, 4, 500)


def test_two_shards_fill_one_cache(pool, folders, tmp_path):
    teacher = load_teacher(folders["hubert"])
    assert compute_features(pool, teacher, tmp_path, shard=(0, 2)) == 3
    with pytest.raises(TrainError, match="3 utterances have no features yet"):
        FeatureCache(tmp_path, pool)
    assert compute_features(pool, teacher, tmp_path, shard=(1, 2)) == 3
    cache = FeatureCache(tmp_path, pool)
    assert (cache.dim, cache.hop, cache.teacher) == (24, 640, "hubert#2")
    for utterance in pool.utterances:
        frames = -(-utterance.samples // 640)
        expected = at_hop(teacher.features(torch.from_numpy(pool.wave(utterance))[None])[0], 50, frames, 640)
        whole, piece = cache.crop([Crop(utterance, 0, utterance.samples), Crop(utterance, 3 * 640, 4 * 640)], frames + 5)
        assert torch.equal(whole[:frames], expected.half())
        assert torch.equal(piece[:4], expected.half()[3:7])
        assert not whole[frames:].any()


def test_an_interrupted_cache_goes_on(pool, folders, tmp_path):
    teacher = load_teacher(folders["hubert"])
    calls, features = [], teacher.features

    def stop_at_third(wave):
        calls.append(wave)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return features(wave)

    teacher.features = stop_at_third
    with pytest.raises(KeyboardInterrupt):
        compute_features(pool, teacher, tmp_path)
    teacher.features = features
    assert compute_features(pool, teacher, tmp_path) == 4
    assert compute_features(pool, teacher, tmp_path) == 0


def test_features_are_written_a_few_clips_at_a_time(pool, folders, tmp_path, monkeypatch):
    teacher, written = load_teacher(folders["hubert"]), []
    flush = features._Writer.flush
    monkeypatch.setattr(features._Writer, "CLIPS", 4)
    monkeypatch.setattr(features._Writer, "flush", lambda self: (written.append(len(self.held)), flush(self)))
    compute_features(pool, teacher, tmp_path)
    assert written == [4, 2]
    frames = [-(-u.samples // 640) for u in pool.utterances]
    alone = [at_hop(teacher.features(torch.from_numpy(pool.wave(u))[None])[0], 50, n, 640) for u, n in zip(pool.utterances, frames, strict=True)]
    assert torch.equal(FeatureCache(tmp_path, pool).data, torch.cat(alone).half())


def test_features_of_something_else_are_refused(pool, folders, tmp_path):
    compute_features(pool, load_teacher(folders["hubert"]), tmp_path / "a")
    with pytest.raises(TrainError, match="choose another folder"):
        compute_features(pool, load_teacher(folders["wavlm"]), tmp_path / "a")
    with pytest.raises(TrainError, match="compute them for this pool"):
        FeatureCache(tmp_path / "a", make_pool(tmp_path / "other", 1, 1))
    with pytest.raises(TrainError, match="make them with: unitoken train features"):
        FeatureCache(tmp_path, pool)


def test_targets_are_white_principal_axes(pool, folders, tmp_path):
    teacher = load_teacher(folders["hubert"])
    compute_features(pool, teacher, tmp_path)
    cache = FeatureCache(tmp_path, pool)
    fitted = Projection.fit(cache, pool.utterances, 24)
    targets = fitted(cache.data)
    covariance = targets.T @ targets / len(targets)
    assert fitted.kept == pytest.approx(1, abs=1e-5)
    assert covariance.diagonal().mean() == pytest.approx(1, rel=0.05)
    assert (covariance - covariance.diagonal().diag()).abs().max() < 0.02
    assert (covariance.diagonal().diff() <= 1e-3).all()
    fitted.save(tmp_path / "p.safetensors")
    again = Projection.load(tmp_path / "p.safetensors")
    assert torch.equal(again.axes, fitted.axes)


def test_targets_know_nothing_of_held_out_utterances(pool, folders, tmp_path):
    compute_features(pool, load_teacher(folders["hubert"]), tmp_path)
    cache, heard = FeatureCache(tmp_path, pool), pool.utterances[:-3]
    fitted = Projection.fit(cache, heard, 24)
    cache.data[cache.offsets[pool.utterances[-3].path] :] = 1e3
    again = Projection.fit(cache, heard, 24)
    assert all(torch.equal(getattr(fitted, name), getattr(again, name)) for name in ("mean", "scale", "axes"))

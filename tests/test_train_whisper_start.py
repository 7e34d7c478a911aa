import dataclasses

import pytest
import torch
from torch.nn import functional as F

from trainset import RUN, buzz, count_steps, make_pool, make_teacher
from unitoken.config import QuantizerConfig, SemanticConfig
from unitoken.encoder_config import FrontEndConfig, TransformerConfig
from unitoken.errors import TrainError
from unitoken.nn.flow import Rows
from unitoken.presets import preset
from unitoken.train.features import FeatureCache, compute_features
from unitoken.train.missed import missed
from unitoken.train.semantic import LessonMaker, SemanticSettings, SemanticStudent, train_semantic
from unitoken.train.teachers import load_teacher
from unitoken.train.whisper_start import begin, fit_output, take_over

TRANSFORMER = TransformerConfig(24, 2, (48, 20), 3)
CONFIG = dataclasses.replace(preset("tiny"), semantic=SemanticConfig(TRANSFORMER, QuantizerConfig("vq", 16, 1, 64)))


def configured(**changes):
    encoder = dataclasses.replace(TRANSFORMER, **changes)
    return dataclasses.replace(CONFIG, semantic=dataclasses.replace(CONFIG.semantic, encoder=encoder))


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    teacher = load_teacher(make_teacher("whisper", tmp_path_factory.mktemp("whisper")))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in teacher.encoder.parameters():  # fresh biases are zero, fresh norms one
            parameter.add_(0.2 * torch.randn_like(parameter))
    return teacher


@pytest.fixture(scope="module")
def waves():
    return [torch.from_numpy(buzz(1.0 + 0.1 * number, 100 + 30 * number, number)) for number in range(4)]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return make_pool(tmp_path_factory.mktemp("data"), 4, 2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory, pool, whisper):
    folder = tmp_path_factory.mktemp("features")
    compute_features(pool, whisper, folder)
    return FeatureCache(folder, pool)


def started(whisper, waves, config=CONFIG):
    torch.manual_seed(0)
    student = SemanticStudent(config).eval()
    take_over(student, whisper, waves)
    return student


def test_a_block_computes_what_whispers_layer_does(whisper, waves):
    block, layer = started(whisper, waves).semantic.blocks[0], whisper.encoder.layers[0]
    x = torch.randn(1, 12, 24)
    out = layer(x, None)
    expected = out[0] if isinstance(out, tuple) else out
    torch.testing.assert_close(block(x, Rows(), 12, 12), expected, rtol=0, atol=1e-5)


def test_a_narrow_block_keeps_the_channels_that_do_most(whisper, waves):
    layer = whisper.encoder.layers[1]
    used, weight = torch.arange(3, 43, 2), layer.fc2.weight.clone()
    idle = torch.ones(48, dtype=torch.bool)
    idle[used] = False
    try:
        with torch.no_grad():
            layer.fc2.weight[:, idle] = 0
        block = started(whisper, waves).semantic.blocks[1]
        assert torch.equal(block.up.weight, layer.fc1.weight[used])
        assert torch.equal(block.down.weight, layer.fc2.weight[:, used])
    finally:
        layer.fc2.weight.data = weight


def test_how_loud_a_channel_is_on_speech_counts_too(whisper, waves):
    layer = whisper.encoder.layers[1]
    bias = layer.fc1.bias.clone()
    try:
        with torch.no_grad():
            layer.fc1.bias[7] = -100.0  # GELU gives nothing
        assert not (started(whisper, waves).semantic.blocks[1].up.bias == -100).any()
    finally:
        layer.fc1.bias.data = bias


def test_the_first_convolution_hears_bands_at_whispers_scale(whisper, waves):
    student, wave = started(whisper, waves), waves[1][: 100 * 160]
    ours = student.semantic.first(student.front_end_s(wave[None]).transpose(1, 2))[0, :, 2:-3]
    log_mel = whisper.log_mel(wave[None])
    theirs = whisper.encoder.conv1((log_mel[..., :-1] + log_mel[..., 1:]) / 2)[0, :, 2:-2]
    error, spread = (ours - theirs).square().mean(), (theirs - theirs.mean(1, keepdim=True)).square().mean()
    assert error < 0.2 * spread


def test_the_output_layer_is_the_best_linear_map_to_the_targets(tmp_path, pool, cache, whisper, waves):
    lessons = LessonMaker(pool, pool.utterances, cache, tmp_path, CONFIG, SemanticSettings(RUN, seconds=2.0))
    student = started(whisper, waves)
    before = missed(student, lessons, pool.utterances)
    fit_output(student, lessons, pool.utterances, ridge=1e-3)
    fitted = missed(student, lessons, pool.utterances)
    assert fitted < min(before, 0.9)
    for sign in (0.02, -0.02):
        torch.manual_seed(3)
        moved = SemanticStudent(CONFIG).eval()
        moved.load_state_dict(student.state_dict())
        with torch.no_grad():
            moved.semantic.out.weight.add_(sign * torch.randn(moved.semantic.out.weight.shape))
            moved.semantic.out.bias.add_(sign)
        assert missed(moved, lessons, pool.utterances) > fitted


def test_a_run_begins_with_whisper_and_goes_on_without(tmp_path, monkeypatch, pool, cache, whisper):
    lessons = LessonMaker(pool, pool.utterances, cache, tmp_path, CONFIG, SemanticSettings(RUN, batch=4, seconds=0.5))
    begun = list[float]()

    def start(student):
        begin(student, lessons, whisper)
        begun.append(float(student.semantic.blocks[0].down.weight.detach().sum()))

    count_steps(monkeypatch, 2)
    train_semantic(lessons, start)
    count_steps(monkeypatch, 2)
    train_semantic(lessons, start)
    assert len(begun) == 1
    assert begun[0] == pytest.approx(float(whisper.encoder.layers[0].fc2.weight.detach().sum()), abs=1e-4)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (preset("tiny"), "tiny has no semantic transformer to take over"),
        (configured(dim=32, heads=2), r"dim, heads, mels and hop of the transformer are \(32, 2, 80, 160\), .* has \(24, 2, 80, 160\)"),
        (configured(hidden=(8, 8, 8)), "2 blocks and 48 hidden channels at most"),
        (configured(hidden=(64,)), "2 blocks and 48 hidden channels at most"),
        (configured(front_end=FrontEndConfig(400, 400, 160, 64)), r"are \(24, 2, 64, 160\)"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(whisper, waves, config, words):
    with pytest.raises(TrainError, match=words):
        take_over(SemanticStudent(config), whisper, waves)


def test_nothing_but_whisper_is_taken_over_and_not_without_speech(tmp_path, whisper, waves):
    with pytest.raises(TrainError, match="no speech to fit"):
        take_over(SemanticStudent(CONFIG), whisper, [])
    other = load_teacher(make_teacher("hubert", tmp_path / "hubert"))
    with pytest.raises(TrainError, match="hubert#2 is no Whisper encoder"):
        take_over(SemanticStudent(CONFIG), other, waves)


def test_gelu_is_the_activation_of_both(whisper):
    x = torch.randn(50)
    torch.testing.assert_close(whisper.encoder.layers[0].activation_fn(x), F.gelu(x))

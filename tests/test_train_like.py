import dataclasses

import pytest
import torch

from trainset import TINY, make_codec, make_pool, make_tokens
from unitoken.config import QuantizerConfig
from unitoken.encoder_config import FrontEndConfig, TransformerConfig
from unitoken.errors import TrainError
from unitoken.model.codec import Codec
from unitoken.model.decoding import ClipDecoder, Tokens
from unitoken.nn.flow import Rows
from unitoken.train import like
from unitoken.train.like import codewords_like, keep_rest, narrow
from unitoken.train.semantic import SemanticStudent
from unitoken.train.semantic_tokens import pool_latents
from unitoken.train.store import AudioStore

HEARS = dataclasses.replace(TINY, p_hears_s=1)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return make_pool(tmp_path_factory.mktemp("data"), 4, 2)


def student_of(codec, config=None):
    student = SemanticStudent(config or codec.config).eval()
    student.semantic.load_state_dict(codec.semantic.state_dict())
    return student


def decoded(codec, s, p, g):
    """Return what a row full of tokens decodes to."""
    return ClipDecoder(codec).decode([Tokens(s[0], p[0], g[0], s.shape[1] * TINY.hop)])[0]


def test_a_codeword_is_the_mean_of_what_the_student_says_where_it_was_chosen(tmp_path, monkeypatch, pool):
    codec = make_codec().eval()
    tokens, student = make_tokens(codec, pool, tmp_path), student_of(codec)
    with torch.no_grad():
        student.semantic.out.weight.mul_(2)
        student.semantic.out.bias.mul_(2).add_(1)
    count = torch.bincount(tokens.data.long(), minlength=64)
    codewords = codewords_like(codec, student, pool, pool.utterances)
    plain, used = codewords_like(codec, student_of(codec), pool, pool.utterances), count > 0
    torch.testing.assert_close(codewords[used], plain[used] * 2 + 1, rtol=0, atol=1e-3)
    often, latents = int(count.argmax()), list[torch.Tensor]()
    for utterance in pool.utterances:
        (_, found), start = next(pool_latents(student, AudioStore(pool), [utterance])), tokens.offsets[utterance.path]
        latents.append(found[(tokens.data[start : start + len(found)].long() == often).nonzero()[:, 0]])
    mean = torch.cat(latents).mean(0)
    assert count[often] == len(torch.cat(latents)) >= 20
    monkeypatch.setattr(like, "PULL", 1e-6)
    unpulled = codewords_like(codec, student, pool, pool.utterances)
    torch.testing.assert_close(unpulled[often], mean, rtol=0, atol=1e-4)
    assert 0 < (codewords[often] - mean).norm() < (mean - torch.cat(latents)).norm(dim=1).mean()
    again = codewords_like(codec, student, pool, pool.utterances, frames=1)
    assert not torch.equal(again, codewords)


def test_the_rest_goes_on_as_it_was_with_codewords_that_only_moved():
    torch.manual_seed(0)
    codec = Codec(HEARS).eval()
    with torch.no_grad():
        codec.residual.side.weight.normal_()
    turn = torch.linalg.qr(torch.randn(16, 16)).Q
    known = codec.quantizer_s.codebook
    made = keep_rest(codec, student_of(codec), known @ turn, torch.ones(64))
    s, p, g = torch.randint(64, (1, 30, 1)), torch.randint(64, (1, 30, 1)), torch.randint(16, (1, 2))
    torch.testing.assert_close(decoded(made, s, p, g), decoded(codec, s, p, g), rtol=0, atol=1e-4)
    features = torch.randn(1, 120, 32)
    heard = [each.residual(features, Rows(), each.quantizer_s.dequantize(s)) for each in (made, codec)]
    torch.testing.assert_close(*heard, rtol=0, atol=1e-4)
    shifted = keep_rest(codec, student_of(codec), known @ turn + 3, torch.ones(64))
    torch.testing.assert_close(decoded(shifted, s, p, g), decoded(codec, s, p, g), rtol=0, atol=1e-4)


def test_an_encoder_of_another_kind_joins_the_rest():
    codec = make_codec().eval()
    encoder = TransformerConfig(32, 2, (24, 16), 4, FrontEndConfig(400, 400, 160, 40))
    config = dataclasses.replace(TINY, name="other", semantic=dataclasses.replace(TINY.semantic, encoder=encoder))
    student = SemanticStudent(config)
    made = keep_rest(codec, student, codec.quantizer_s.codebook, torch.ones(64))
    assert made.config == config
    assert all(torch.equal(value, made.semantic.state_dict()[name]) for name, value in student.semantic.state_dict().items())
    assert all(torch.equal(value, made.residual.state_dict()[name]) for name, value in codec.residual.state_dict().items())


def test_codewords_of_another_dim_are_read_as_well_as_can_be():
    codec = make_codec().eval()
    config = dataclasses.replace(TINY, semantic=dataclasses.replace(TINY.semantic, quantizer=QuantizerConfig("vq", 12, 1, 64)))
    narrow = torch.randn(64, 12, generator=torch.Generator().manual_seed(0))
    made = keep_rest(codec, SemanticStudent(config), narrow, torch.ones(64))
    assert made.decoder.from_s.weight.shape[1] == 12
    said, wanted = made.decoder.from_s(narrow), codec.decoder.from_s(codec.quantizer_s.codebook)
    best = torch.linalg.lstsq(torch.cat([narrow, torch.ones(64, 1)], 1), wanted).solution
    torch.testing.assert_close(said, torch.cat([narrow, torch.ones(64, 1)], 1) @ best, rtol=0, atol=1e-3)


def test_a_narrower_latent_is_what_the_student_says_on_its_principal_axes(pool):
    student = student_of(make_codec().eval())
    made, axes = narrow(student, 5, pool, pool.utterances)
    assert (made.config.semantic.quantizer.dim, student.config.semantic.quantizer.dim) == (5, 16)
    audio = AudioStore(pool)
    said, told = (torch.cat([latents for _, latents in pool_latents(each, audio, pool.utterances)]) for each in (student, made))
    wanted = torch.pca_lowrank(said, 5, niter=20)[2]
    assert torch.cov(told.T).diagonal().sum() == pytest.approx(float(torch.cov((said @ wanted).T).diagonal().sum()), rel=1e-3)
    torch.testing.assert_close(said @ axes, told, rtol=0, atol=1e-4)
    correlation = torch.corrcoef(told.T)
    assert (correlation - torch.eye(5)).abs().max() < 1e-2
    assert (torch.linalg.lstsq(said - said.mean(0), told - told.mean(0)).solution.norm(dim=0) - 1).abs().max() < 1e-3


def test_a_latent_is_not_made_wider_nor_without_speech(pool):
    student = student_of(make_codec().eval())
    with pytest.raises(TrainError, match="a latent of 16 dims can be brought to 1 to 15, got 16"):
        narrow(student, 16, pool, pool.utterances)
    with pytest.raises(TrainError, match="0 frames do not show the axes of 16 dims"):
        narrow(student, 4, pool, [])


def test_what_cannot_be_kept_is_refused(pool):
    codec = make_codec().eval()
    small = dataclasses.replace(TINY, semantic=dataclasses.replace(TINY.semantic, quantizer=QuantizerConfig("vq", 16, 1, 32)))
    with pytest.raises(TrainError, match="the student's codebook has 32 codewords, that of tiny 64; make codebook_size equal"):
        codewords_like(codec, SemanticStudent(small), pool, pool.utterances)
    with pytest.raises(TrainError, match="no speech to find"):
        codewords_like(codec, student_of(codec), pool, [])
    with pytest.raises(TrainError, match="differ in more than the semantic stream"):
        keep_rest(codec, SemanticStudent(HEARS), codec.quantizer_s.codebook, torch.ones(64))

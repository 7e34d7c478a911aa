from dataclasses import replace

import pytest
import torch

from trainset import RUN, TINY, make_codec
from unitoken.config import QuantizerConfig
from unitoken.errors import TrainError
from unitoken.model.codec import Codec
from unitoken.train.refine import QuantizedStudent, Reader, RefineSettings


def test_what_is_read_is_quantized_except_where_it_is_not_to_be():
    student = QuantizedStudent(make_codec(), RefineSettings(RUN)).eval()
    heard = []
    student.reader.register_forward_hook(lambda module, given, returned: heard.append(given[0]))
    magnitudes = torch.rand(2, 20 * TINY.hop_s // TINY.front_end.hop, TINY.front_end.n_fft // 2 + 1, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 20, 1)
    mask[1, 12:] = 0
    with torch.no_grad():
        _, alone, _, quantized = student(magnitudes, mask, torch.tensor([False, True])[:, None, None], True)
        latent = student.student(magnitudes, mask)
    codebook = student.trainer.quantizer.codebook
    assert torch.allclose(heard[0][0], codebook[quantized.tokens[0, :, 0]], atol=1e-5)
    assert torch.equal(heard[0][1], latent[1])
    assert not torch.allclose(heard[0][1], quantized.codewords[1], atol=1e-2)
    assert torch.equal(alone, student.reader.alone(heard[0]))


def test_what_is_foretold_hears_its_neighbours_and_no_padding():
    torch.manual_seed(0)
    reader, codewords, mask = Reader(8), torch.randn(1, 20, 8), torch.ones(1, 20, 1)
    mask[0, 12:] = 0
    changed = codewords.clone()
    changed[0, 5] += 1.0
    with torch.no_grad():
        together, alone = reader(codewords, mask)
        short = reader(codewords[:, :12], mask[:, :12])[0]
        touched, touched_alone = (
            (new - old)[0, :12].abs().amax(-1) > 1e-6 for new, old in zip(reader(changed, mask), (together, alone), strict=True)
        )
    assert torch.allclose(together[:, :12], short, atol=1e-5)
    assert touched.all()
    assert touched_alone.nonzero().flatten().tolist() == [5]


def test_codewords_are_chosen_in_full_precision(monkeypatch):
    monkeypatch.setattr("unitoken.train.run.has_bfloat16", lambda device: True)
    student = QuantizedStudent(make_codec(), RefineSettings(replace(RUN, autocast=True))).eval()
    magnitudes = torch.rand(4, 200 * TINY.hop_s // TINY.front_end.hop, TINY.front_end.n_fft // 2 + 1, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(4, 200, 1)
    with torch.no_grad():
        together, _, _, quantized = student(magnitudes, mask, torch.zeros(4, 1, 1, dtype=torch.bool), True)
        with torch.autocast("cpu", torch.bfloat16):
            latent = student.student(magnitudes, mask)
    assert together.dtype == torch.bfloat16
    assert torch.equal(quantized.tokens, student.trainer.quantizer.quantize(latent.float())[0])


def test_words_that_are_not_one_codebook_are_not_refined():
    quantizer = QuantizerConfig("rvq", 8, 2, 64)
    codec = Codec(replace(TINY, semantic=replace(TINY.semantic, quantizer=quantizer)))
    with pytest.raises(TrainError, match="make one codebook, the semantic quantizer of tiny is rvq; use kind vq"):
        QuantizedStudent(codec, RefineSettings(RUN))

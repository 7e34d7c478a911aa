"""Models of transformers that read and write speech: embeddings, strings, and logits under the grammar."""

import pytest
import torch
from tokenizers import Tokenizer as TextTokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from layouts import TEXT, bundle_of, info_of, vocabulary_of
from unitoken import lm
from unitoken.errors import ConfigError, LayoutError


def model_of(size, *, tied=False):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).eval()


def text_tokenizer():
    words = WordLevel({f"w{n}": n for n in range(TEXT)}, "w0")
    return PreTrainedTokenizerFast(tokenizer_object=TextTokenizer(words), **{"unk_token": "w0"})


@pytest.mark.parametrize(("body", "beams"), [(lm.Interleaved(), 1), (lm.Interleaved(2), 1), (lm.Sequential(), 3), (lm.Runs(), 1)], ids=str)
def test_what_a_random_model_writes_can_be_read(body, beams):
    layout = lm.Layout(vocabulary_of(), body)
    model = model_of(layout.vocabulary.size + 7)
    g = bundle_of(info_of(), 640).g
    prompt = torch.tensor([[3, 4, *layout.prefix(g)], [*[layout.vocabulary.pad] * 5, 3, *layout.prefix()]])
    assert prompt.shape[0] == 2
    torch.manual_seed(1)
    told = model.generate(
        prompt,
        attention_mask=(prompt != layout.vocabulary.pad).long(),
        do_sample=beams == 1,
        num_beams=beams,
        max_new_tokens=40,
        logits_processor=[lm.Constraint(layout)],
        eos_token_id=layout.vocabulary.eos,
        pad_token_id=layout.vocabulary.pad,
    )
    for row, voice in zip(told.tolist(), (g, None), strict=True):
        ids = row[row.index(layout.vocabulary.bos) :]
        reader = lm.Reader(layout)
        for id in ids:
            reader.push(id)
        if reader.finished:
            assert (layout.from_ids(ids).g is None) == (voice is None)
        assert (reader.g is None) == (voice is None)


def test_text_goes_on_around_speech():
    layout = lm.Layout(vocabulary_of(), lm.Semantic())
    v = layout.vocabulary
    ids = torch.tensor([[7, v.bos, v.kind("semantic").first, v.kind("s0").first]])
    scores = torch.zeros(1, v.size + 2)

    def allowed(constraint, ids):
        return torch.isfinite(constraint(ids, scores)[0]).nonzero().flatten().tolist()

    constraint = lm.Constraint(layout)
    text = list(range(TEXT))
    assert allowed(constraint, ids[:, :1]) == [*text, v.bos]
    assert allowed(constraint, ids[:, :2]) == [v.kind("global").first, v.kind("semantic").first]
    assert allowed(constraint, ids) == [v.eos, *range(v.kind("s0").first, v.kind("s0").stop)]  # not called with three ids: found again
    done = torch.cat([ids, torch.tensor([[v.eos]])], 1)
    assert allowed(constraint, done) == [*text, v.bos]
    assert allowed(constraint, torch.cat([done, torch.tensor([[9, v.bos]])], 1)) == [v.kind("global").first, v.kind("semantic").first]
    speech = lm.Constraint(layout, text=False)
    assert allowed(speech, ids[:, :1]) == [v.bos]
    assert allowed(speech, done) == [v.pad]
    with pytest.raises(LayoutError, match="expected global or semantic, got s0 0"):
        constraint(ids[:, [1, 3]], scores)
    with pytest.raises(LayoutError, match="resize_embeddings gives a model as many"):
        constraint(ids, scores[:, :5])


@pytest.mark.parametrize("tied", [False, True])
def test_embeddings_of_text_stay_and_codewords_keep_their_distances(tied):
    vocabulary = vocabulary_of()
    model = model_of(TEXT + 6, tied=tied)
    before = model.get_input_embeddings().weight[:TEXT].clone()
    table = torch.randn(1, 8, 4)
    state = torch.random.get_rng_state()
    lm.resize_embeddings(model, vocabulary, {"s": table})
    assert torch.random.get_rng_state().equal(state)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        weight = layer.weight.detach()
        assert weight.shape == (vocabulary.size, 16)
        first = vocabulary.kind("s0").first
        ratio = torch.cdist(weight[first : first + 8], weight[first : first + 8]) / torch.cdist(table[0], table[0])
        ratio = ratio[~torch.eye(8, dtype=torch.bool)]
        assert float(ratio.std() / ratio.mean()) < 1e-3
        new = weight[TEXT:]
        assert float(new.std()) == pytest.approx(float(weight[:TEXT].std()), rel=0.1)
    assert model.get_input_embeddings().weight[:TEXT].equal(before)
    assert (model.get_output_embeddings().weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()) is tied
    again = model_of(TEXT + 6, tied=tied)
    lm.resize_embeddings(again, vocabulary, {"s": table})
    assert again.get_input_embeddings().weight.equal(model.get_input_embeddings().weight)


def test_a_model_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="embeddings of 40 ids, the vocabulary 50 of text; build it"):
        lm.resize_embeddings(model_of(40), vocabulary_of())
    with pytest.raises(ConfigError, match="50 of text, which is not first"):
        lm.resize_embeddings(model_of(60), vocabulary_of(text_first=False))
    with pytest.raises(ConfigError, match=r"codewords of 's' must have the shape \(1, 8, dim\), got \(1, 7, 4\)"):
        lm.resize_embeddings(model_of(60), vocabulary_of(), {"s": torch.zeros(1, 7, 4)})


def test_strings_for_a_text_tokenizer():
    tokenizer, vocabulary = text_tokenizer(), vocabulary_of()
    lm.add_strings(tokenizer, vocabulary)
    layout = lm.Layout(vocabulary, lm.Interleaved())
    ids = layout.to_ids(bundle_of(info_of(), 3 * 640)).tolist()
    written = "".join(tokenizer.convert_ids_to_tokens(ids))
    assert written.startswith("<|bos|><|global|><|g0_")
    assert tokenizer(written, add_special_tokens=False)["input_ids"] == ids
    with pytest.raises(ConfigError, match="the tokenizer has 98 ids, the vocabulary 50 of text"):
        lm.add_strings(tokenizer, vocabulary)
    with pytest.raises(ConfigError, match=r"the tokenizer knows '<\|pad\|>' already"):
        lm.add_strings(tokenizer, vocabulary_of(text_size=len(tokenizer)))

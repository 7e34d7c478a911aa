"""Text to speech: a transformer reads characters and a voice, and writes S and P, as VALL-E (arXiv 2301.02111) with one sequence for all tokens.

usage: python examples/lm/text_to_speech.py TOKENS --held-out SPEAKERS.tsv -o RUN --audio TRAIN.tar... [--minutes 60] [--asr WHISPER]
           [--speakers GE2E.safetensors] [--voices rhasspy-kathleen rhasspy-kerstin]

TOKENS is a folder that `unitoken corpus encode` wrote, with the columns source, speaker, language and transcript. Every twentieth sentence is held
out for all speakers, and so are the speakers of SPEAKERS.tsv. Trains for so many minutes in all, goes on where it was stopped, then speaks held-out
sentences with G of another clip of the same voice, writes them as WAV files into RUN, and prints words lost and nearness of the voice, beside the
recording and the recording decoded from its tokens.
"""

import zlib

import torch
from transformer import arguments, build, recordings, split, train

from unitoken import Tokenizer, corpus, lm, save_audio
from unitoken.evaluate.speakers import SpeakerEmbedder
from unitoken.evaluate.words import count_errors, load_whisper, normalise, pool_errors

MOST_FRAMES, MOST_BYTES, LANGUAGES = 200, 90, ("en", "de")


def text_of(row):
    """Return what is read: lower case, without punctuation, as UTF-8."""
    return normalise(row["transcript"]).encode()


def read_aloud(tokens):
    """Return the utterances whose words are known and that fit into a row, and whether each one's sentence is held out."""
    columns = [tokens.column(name).to_pylist() for name in ("transcript", "language", "samples")]
    most = MOST_FRAMES * tokens.info.hop
    fits = [
        number
        for number, (said, language, samples) in enumerate(zip(*columns, strict=True))
        if said and said[0] != "[" and language in LANGUAGES and samples <= most and 0 < len(normalise(said).encode()) <= MOST_BYTES
    ]
    chosen = tokens.select(fits)
    return chosen, [zlib.crc32(normalise(said).encode()) % 20 == 0 for said in chosen.column("transcript").to_pylist()]


def sentences(tokens, told, voices, number):
    """Return pairs of a held-out utterance and one of the same voice to take G from, about as many of each voice."""
    pairs, rows = [], [(row["source"], row["speaker"]) for row in tokens]
    for voice in voices:
        own = [index for index, (source, _) in enumerate(rows) if source == voice]
        held, others = [index for index in own if told[index]], [index for index in own if not told[index]]
        pairs += [(tokens[index], tokens[others[turn]]) for turn, index in enumerate(held[: number // len(voices)])]
    return pairs


def speak(model, layout, tok, text, g, seed):
    """Return the waveform of a text in a voice, and whether the model came to an end."""
    torch.manual_seed(seed)
    prompt = torch.from_numpy(layout.prefix(g, list(text)))[None]
    constraint = lm.Constraint(layout)
    ids = model.generate(prompt, do_sample=True, top_k=30, temperature=0.8, max_new_tokens=2 * MOST_FRAMES, logits_processor=[constraint])[0].tolist()
    parts = list(lm.speak(tok, layout, ids))
    return torch.cat(parts) if parts else torch.zeros(1), ids[-1] == layout.vocabulary.eos


def measure(model, layout, tok, pairs, args):
    """Speak the held-out sentences and print the table."""
    clips = recordings(args.audio, {row.id for pair in pairs for row in pair})
    asr = load_whisper(args.asr) if args.asr else None
    embedder = SpeakerEmbedder(args.speakers) if args.speakers else None
    errors, cosines, ended = {}, {}, 0
    for index, (row, voice) in enumerate(pairs):
        spoken, whole = speak(model, layout, tok, text_of(row), voice.bundle.g, index)
        ended += whole
        save_audio(args.output / f"{index}.wav", spoken, tok.sample_rate)
        said = {"recording": clips[row.id], "its tokens, decoded": tok.decode(row.bundle.replace(g=voice.bundle.g)), "from text": spoken}
        for name, wave in said.items():
            if asr:
                errors.setdefault(name, []).append(count_errors(row["transcript"], asr.transcribe(wave, row["language"]), "word"))
            if embedder:
                cosines.setdefault(name, []).append(embedder.similarity(wave, clips[voice.id]))
    print(f"\n{len(pairs)} sentences, {ended} of them ended by the model\n")
    print("| | WER | voice, cosine to the prompt |\n|---|---:|---:|")
    for name in ("recording", "its tokens, decoded", "from text"):
        wer = f"{pool_errors(errors[name]):.3f}" if asr else "-"
        print(f"| {name} | {wer} | {f'{sum(cosines[name]) / len(cosines[name]):.3f}' if embedder else '-'} |")


def main():
    """Train, speak, measure."""
    parser = arguments(__doc__, depth=8, minutes=60)
    parser.add_argument("--audio", nargs="+", required=True, help="tar files with the recordings, to compare with")
    parser.add_argument("--voices", nargs="+", default=["rhasspy-kathleen", "rhasspy-kerstin"], help="sources whose held-out sentences are spoken")
    parser.add_argument("--sentences", type=int, default=40)
    parser.add_argument("--asr", help="Whisper model in CTranslate2's format")
    parser.add_argument("--speakers", help="GE2E weights")
    args = parser.parse_args()
    tok = Tokenizer.from_pretrained(args.model)
    tokens, told = read_aloud(corpus.open(args.tokens))
    learnt, _ = split(tokens.select([number for number, out in enumerate(told) if not out]), args.held_out)
    layout = lm.Layout(lm.Vocabulary(tok.info, text_size=256), lm.Interleaved(), text="before")
    args.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = build(layout, args.width, args.depth)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {layout}")
    print(f"{len(learnt)} utterances learnt, {learnt.seconds / 3600:.2f} h; {sum(told)} of {len(told)} have a sentence that is held out")
    train(model, layout, corpus.Sequences(learnt, layout, text=text_of), args.output, args.minutes)
    measure(model.eval(), layout, tok, sentences(tokens, told, args.voices, args.sentences), args)


if __name__ == "__main__":
    main()

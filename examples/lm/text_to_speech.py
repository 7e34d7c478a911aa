"""Text to speech: a transformer reads a voice and a piece of text at a time, and writes S and P of the piece.

Text and speech lie in one sequence in turn, as in SPIRIT-LM (arXiv 2402.05755); which frames a piece is spoken in is found from S (`alignment.py`).
A piece is a phone, told with the two after it; without phones a word in characters, told with the next one.

usage: python examples/lm/text_to_speech.py TOKENS --held-out SPEAKERS.tsv -o RUN --audio TRAIN.tar... [--phones PHONES.tsv] [--minutes 60]
           [--asr WHISPER] [--speakers GE2E.safetensors] [--voices rhasspy-kathleen rhasspy-kerstin]

TOKENS is a folder that `unitoken corpus encode` wrote, with the columns source, speaker, language and transcript, PHONES.tsv what `phones.py` wrote.
Every twentieth sentence is held out for all speakers, and so are the speakers of SPEAKERS.tsv. Trains for so many minutes in all, goes on where it
was stopped, then speaks held-out sentences with G of another clip of the same voice, writes them as WAV files into RUN, and prints words lost and
nearness of the voice, beside the recording and the recording decoded from its tokens.
"""

import csv
import json
import zlib

import numpy as np
import torch
from alignment import unit_frames
from transformer import arguments, build, recordings, split, train

from unitoken import Tokenizer, corpus, lm, save_audio
from unitoken.evaluate.speakers import SpeakerEmbedder
from unitoken.evaluate.words import count_errors, load_whisper, normalise, pool_errors

MOST_FRAMES, MOST_BYTES, LANGUAGES = 160, 90, ("en", "de")
ROW, BATCH, AHEAD, PAUSE = 720, 4, 2, "|"


class Words:
    """Texts as words, told as UTF-8: a word, and the next one, which it sounds of."""

    size, gap = 256, " "

    def pieces(self, row):
        """Return the words of an utterance."""
        return normalise(row["transcript"]).split()

    def told(self, words):
        """Return what is read for each word."""
        return [tuple(" ".join(words[at : at + 2]).encode()) for at in range(len(words))]


class Phones:
    """Texts as phones of a table, with pauses around them: a phone, and the next two."""

    gap = ()

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            self.known = {row["path"]: [PAUSE, *row["phones"].split(), PAUSE] for row in rows}
        self.numbers = {phone: number for number, phone in enumerate(sorted({phone for text in self.known.values() for phone in text}))}
        self.size = len(self.numbers)

    def pieces(self, row):
        """Return the phones of an utterance, each in a list."""
        return [[phone] for phone in self.known.get(row.id, ())]

    def told(self, phones):
        """Return what is read for each phone."""
        ids = [self.numbers[phone] for (phone,) in phones]
        return [tuple(ids[at : at + 1 + AHEAD]) for at in range(len(ids))]


def frames_of(tok, tokens, text, path, minutes):
    """Return the frames of the pieces of each utterance by its id, None where they are not found; they are kept in a file."""
    if not path.exists():
        rows = list(tokens)
        frames = unit_frames(tok, rows, [text.pieces(row) for row in rows], minutes, text.gap)
        path.write_text(json.dumps({row.id: found for row, found in zip(rows, frames, strict=True)}))
    return json.loads(path.read_text())


def read_aloud(tokens, text):
    """Return the utterances whose text is known and that fit into a row, and whether each one's sentence is held out."""
    columns = [tokens.column(name).to_pylist() for name in ("transcript", "language", "samples")]
    most = MOST_FRAMES * tokens.info.hop
    fits = [
        number
        for number, (said, language, samples) in enumerate(zip(*columns, strict=True))
        if said and said[0] != "[" and language in LANGUAGES and samples <= most and 0 < len(normalise(said).encode()) <= MOST_BYTES
    ]
    chosen = tokens.select([number for number in fits if text.pieces(tokens[number])])
    return chosen, [zlib.crc32(normalise(said).encode()) % 20 == 0 for said in chosen.column("transcript").to_pylist()]


def sentences(tokens, told, voices, number):
    """Return pairs of a held-out utterance and one of the same voice to take G from, about as many of each voice."""
    pairs, rows = [], [(row["source"], row["speaker"]) for row in tokens]
    for voice in voices:
        own = [index for index, (source, _) in enumerate(rows) if source == voice]
        held, others = [index for index in own if told[index]], [index for index in own if not told[index]]
        pairs += [(tokens[index], tokens[others[turn]]) for turn, index in enumerate(held[: number // len(voices)])]
    return pairs


def speak(model, layout, tok, texts, g, seed):
    """Return the waveform of a text in a voice, and whether the model came to the end of each piece."""
    torch.manual_seed(seed)
    marker, eos = layout.vocabulary.kind("transcript").first, layout.vocabulary.eos
    ids, constraint = layout.prefix(g, texts[0]), lm.Constraint(layout)
    options = {"do_sample": True, "top_k": 30, "temperature": 0.8, "max_new_tokens": MOST_FRAMES // 2, "logits_processor": [constraint]}
    whole = True
    for at, text in enumerate(texts):
        if at:
            ids = np.concatenate([ids, layout.prefix(None, text)[1:]])  # less BOS
        wanted, never = (eos, marker) if at == len(texts) - 1 else (marker, eos)
        ids = model.generate(torch.from_numpy(ids)[None], eos_token_id=wanted, suppress_tokens=[never], **options)[0].numpy()
        whole &= ids[-1] == wanted
        ids = ids[:-1] if ids[-1] == marker else ids
    parts = list(lm.speak(tok, layout, ids.tolist()))
    return torch.cat(parts) if parts else torch.zeros(1), whole


def measure(say, tok, pairs, args):
    """Have `say` speak what held-out utterances say in the voice of others, and print the table."""
    clips = recordings(args.audio, {row.id for pair in pairs for row in pair})
    asr = load_whisper(args.asr) if args.asr else None
    embedder = SpeakerEmbedder(args.speakers) if args.speakers else None
    languages = list(dict.fromkeys(row["language"] for row, _ in pairs))
    errors, cosines, ended = {}, {}, 0
    for index, (row, voice) in enumerate(pairs):
        spoken, whole = say(row, voice.bundle.g, index)
        ended += whole
        save_audio(args.output / f"{index}.wav", spoken, tok.sample_rate)
        said = {"recording": clips[row.id], "its tokens, decoded": tok.decode(row.bundle.replace(g=voice.bundle.g)), "from text": spoken}
        for name, wave in said.items():
            if asr:
                heard = asr.transcribe(wave, row["language"])
                print(f"{index}, {name}: {heard}", flush=True)
                wrong = count_errors(row["transcript"], heard, "word")
                errors.setdefault(name, {language: [] for language in languages})[row["language"]].append(wrong)
            if embedder:
                cosines.setdefault(name, []).append(embedder.similarity(wave, clips[voice.id]))
    print(f"\n{len(pairs)} sentences, {ended} of them spoken to their end\n")
    print(f"| | {' | '.join(f'WER {language}' for language in languages)} | voice, cosine to the prompt |\n|---|{'---:|' * (len(languages) + 1)}")
    for name in ("recording", "its tokens, decoded", "from text"):
        wers = [f"{pool_errors(errors[name][language]):.3f}" if asr else "-" for language in languages]
        print(f"| {name} | {' | '.join(wers)} | {f'{sum(cosines[name]) / len(cosines[name]):.3f}' if embedder else '-'} |")


def options(doc):
    """Return a parser of what speaking takes."""
    parser = arguments(doc, depth=6, minutes=60)
    parser.add_argument("--audio", nargs="+", required=True, help="tar files with the recordings, to compare with")
    parser.add_argument("--voices", nargs="+", default=["rhasspy-kathleen", "rhasspy-kerstin"], help="sources whose held-out sentences are spoken")
    parser.add_argument("--sentences", type=int, default=40)
    parser.add_argument("--phones", help="table of phones; without it words are told by their characters")
    parser.add_argument("--align", type=float, default=5, metavar="MINUTES", help="of training to find the pieces in time")
    parser.add_argument("--asr", help="Whisper model in CTranslate2's format")
    parser.add_argument("--speakers", help="GE2E weights")
    return parser


def data_of(args, tok, text):
    """Return the utterances to learn, the frames of their pieces, and pairs to speak, see `sentences`."""
    tokens, told = read_aloud(corpus.open(args.tokens), text)
    learnt, _ = split(tokens.select([number for number, out in enumerate(told) if not out]), args.held_out)
    args.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    frames = frames_of(tok, learnt, text, args.output / "pieces.json", args.align)
    learnt = learnt.select([number for number, row in enumerate(learnt) if frames[row.id]])
    print(f"{len(learnt)} utterances learnt, {learnt.seconds / 3600:.2f} h; {sum(told)} of {len(told)} have a sentence that is held out", flush=True)
    return learnt, frames, sentences(tokens, told, args.voices, args.sentences)


def main():
    """Train, speak, measure."""
    args = options(__doc__).parse_args()
    tok = Tokenizer.from_pretrained(args.model)
    text = Phones(args.phones) if args.phones else Words()
    learnt, frames, pairs = data_of(args, tok, text)
    layout = lm.Layout(lm.Vocabulary(tok.info, text_size=text.size), lm.Interleaved(), text="before")
    model = build(layout, args.width, args.depth, {name: tok.codewords(name) for name in "sp"})
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {layout}", flush=True)

    def spans(row):
        return [lm.Span(*span) for span in zip(text.told(text.pieces(row)), frames[row.id], strict=True)]

    train(model, layout, corpus.Sequences(learnt, layout, text=spans), args.output, args.minutes, (ROW, BATCH))
    model.eval()
    measure(lambda row, g, number: speak(model, layout, tok, text.told(text.pieces(row)), g, number), tok, pairs, args)


if __name__ == "__main__":
    main()

"""A small training set for the training tests: buzzes in noise as FLAC in a tar with a manifest, random teachers, and a clock that counts steps."""

import csv
import io
import tarfile

import numpy as np
import soundfile
import torch

from unitoken.model.codec import Codec
from unitoken.presets import preset
from unitoken.train.pitch import DATA as PITCH
from unitoken.train.pitch import PitchCache
from unitoken.train.pool_files import build_pool
from unitoken.train.run import Clock, RunSettings
from unitoken.train.semantic_tokens import SemanticTokens, tokenize_pool
from unitoken.train.store import mark

TINY = preset("tiny")
HEADER = "path\tsource\tspeaker\tlanguage\ttranscript\n"
RUN = RunSettings(learning_rate=2e-3, warmup=1, cooldown=0.0, average=0.5, log_steps=5, autocast=False, save_minutes=1e9)


def buzz(seconds, hertz, seed=0):
    time = np.arange(round(seconds * 16000)) / 16000
    tone = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 8))
    level = 0.55 + 0.45 * np.sin(2 * np.pi * 2 * time)
    return (0.2 * tone * level + 0.002 * np.random.default_rng(seed).standard_normal(len(time))).astype(np.float32)


def write_tar(path, clips):
    """Write `(name, waveform, sample rate)` as FLAC members."""
    with tarfile.open(path, "w") as tar:
        for name, wave, rate in clips:
            file = io.BytesIO()
            soundfile.write(file, wave, rate, format="FLAC")
            member = tarfile.TarInfo(name)
            member.size = len(file.getvalue())
            file.seek(0)
            tar.addfile(member, file)
    return path


def write_manifest(path, rows):
    path.write_text(HEADER + "".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_pool(folder, speakers=4, clips=3):
    """Return a pool of `speakers * clips` utterances of 0.5 to 1.6 s; the last speaker's corpus is narrow-band."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, waves = [], []
    for speaker in range(speakers):
        source = "arabic-sc" if speaker == speakers - 1 else "bench"
        for clip in range(clips):
            number = speaker * clips + clip
            rows.append((f"{source}/s{speaker}/{clip}.flac", source, f"s{speaker}", "en", f"clip {number}"))
            waves.append((rows[-1][0], buzz(0.5 + 0.1 * number, 100 + 20 * number, number), 16000))
    (folder / "sources.tsv").write_text("source\tband_hz\narabic-sc\t4000\n", encoding="utf-8")
    archive = write_tar(folder / "clips.tar", waves)
    return build_pool(write_manifest(folder / "manifest.tsv", rows), [archive], folder / "pool", sources=folder / "sources.tsv")


def make_pitch(pool, folder):
    """Write a constant pitch, without the tracker."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = sum(-(-u.samples // 320) for u in pool.utterances)
    np.full(frames, np.log(150), "<f2").tofile(folder / PITCH)
    mark(folder / PITCH, pool)
    return PitchCache(folder, pool)


def log_of(folder):
    """Return the rows of a run's log."""
    with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def make_codec(seed=0):
    torch.manual_seed(seed)
    return Codec(TINY)


def make_tokens(codec, pool, folder):
    tokenize_pool(codec, codec.quantizer_s.codebook, pool, folder)
    return SemanticTokens(folder, pool, TINY.hop_s)


def count_steps(monkeypatch, steps):
    """Make every clock run out after so many steps in all, and hold the learning rate."""
    left = iter([False] * steps)
    monkeypatch.setattr(Clock, "over", lambda self, number: next(left, True))
    monkeypatch.setattr(Clock, "share", lambda self, number: 0.0)


def make_teacher(kind, folder):
    """Save a random teacher model of 24 features and 2 layers, as `transformers` does."""
    import transformers

    torch.manual_seed(0)
    if kind == "whisper":
        sizes = {"encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
        ids = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
        config = transformers.WhisperConfig(
            vocab_size=8,
            num_mel_bins=80,
            d_model=24,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            suppress_tokens=None,
            begin_suppress_tokens=None,
            **sizes,
            **ids,
        )
        transformers.WhisperModel(config).save_pretrained(folder)
        transformers.WhisperFeatureExtractor(80).save_pretrained(folder)
        return folder
    if kind == "wav2vec2-bert":
        sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
        transformers.Wav2Vec2BertModel(transformers.Wav2Vec2BertConfig(**sizes, feature_projection_input_dim=160)).save_pretrained(folder)
        transformers.SeamlessM4TFeatureExtractor().save_pretrained(folder)
        return folder
    prefix = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}[kind]
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "conv_dim": (16,) * 7}
    config = getattr(transformers, f"{prefix}Config")(**sizes, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2)
    getattr(transformers, f"{prefix}Model")(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=kind != "hubert").save_pretrained(folder)
    return folder

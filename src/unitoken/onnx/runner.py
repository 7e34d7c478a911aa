"""Speech to tokens and back with NumPy and onnxruntime alone, from the folder in which this file lies.

    from runner import Runner
    runner = Runner("folder")
    tokens = runner.encode(waveform)                      # float32 (samples,) at 16 kHz: {"s": ..., "p": ..., "g": ...}
    waveform = runner.decode(**tokens, samples=len(waveform))

usage: python runner.py encode IN.wav OUT.npz
       python runner.py decode IN.npz OUT.wav

WAV files are 16-bit PCM, at the sample rate in runner.json; more channels than one are averaged.
"""

import argparse
import json
import math
import os
import wave as wav
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

NONE = -1
LEAST_HZ, MOST_HZ = 33.0, 660.0
Array = npt.NDArray[Any]
Moments = tuple[Array, Array, Array]


class Runner:
    """Encodes and decodes one clip at a time, in windows that hold their context, so memory does not grow with the clip.

    Args:
        folder: what `unitoken export onnx` wrote.
        threads: of onnxruntime; 0 for as many as there are cores.
        providers: of onnxruntime, such as `["CUDAExecutionProvider", "CPUExecutionProvider"]`; None is the CPU.
    """

    def __init__(self, folder: str | os.PathLike[str] = ".", threads: int = 0, providers: Sequence[str] | None = None) -> None:
        folder = Path(folder)
        self.config: dict[str, Any] = json.loads((folder / "runner.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the graphs' threads would wait in each other's way
        self._sessions: dict[str, Any] = {
            name: onnxruntime.InferenceSession(folder / file, options, providers=providers or ["CPUExecutionProvider"])
            for name, file in self.config["files"].items()
        }

    def encode(self, waveform: Array, latents: bool = False) -> dict[str, Array]:
        """Return the tokens of a clip.

        Args:
            waveform: float `(samples,)` at the model's sample rate, within [-1, 1], finite.
            latents: also return what was quantized, `s_latent`, `p_latent` and `g_latent`, float32.

        Returns:
            `s` and `p`, int64 `(frames,)`, or `(frames, codebooks)` where a stream has several; `g`, int64 `(num_g,)`.

        Raises:
            ValueError: if that is no finite waveform.
        """
        waveform = np.asarray(waveform)
        if waveform.ndim != 1 or waveform.dtype.kind != "f" or not np.isfinite(waveform).all():
            raise ValueError(f"a waveform is a finite array (samples,) of floating point numbers, got {waveform.dtype} {waveform.shape}")
        config, samples, waveform = self.config, len(waveform), waveform.astype(np.float32)
        past, future = config["encode_context_frames"]
        found: dict[str, list[Array]] = {name: [] for name in ("s", "p", "s_latent", "p_latent")}
        moments: Moments | None = None
        for first, last, begin, end in windows(-(-samples // config["hop"]), config["encode_core"], past, future):
            piece = cut(waveform, begin * config["hop"], end * config["hop"])
            outputs = self._run("encoder", piece[None], np.array([begin * config["hop"]]), np.array([samples]))
            for stream in "sp":
                fine = config["hop"] // config["hops"][stream]
                for name in (stream, f"{stream}_latent"):
                    found[name].append(outputs[name][0, (first - begin) * fine : (last - begin) * fine])
            fine = config["hop"] // config["hops"]["g"]
            count = min(last * fine, -(-samples // config["hops"]["g"])) - first * fine
            span = slice((first - begin) * fine, (first - begin) * fine + count)
            moments = merged(moments, outputs["voice"][0, span].astype(np.float64), outputs["weight"][0, span].astype(np.float64))
        tokens: dict[str, Array] = {}
        for stream in "sp":
            count = -(-samples // config["hops"][stream])
            empty = np.zeros((0, config["codebooks"][stream]), np.int64)
            joined = np.concatenate([empty, *found[stream]])[:count]
            tokens[stream] = joined[:, 0] if joined.shape[1] == 1 else joined
            if latents:
                empty = np.zeros((0, config["dims"][stream]), np.float32)
                tokens[f"{stream}_latent"] = np.concatenate([empty, *found[f"{stream}_latent"]])[:count]
        voice = self._run("voice", pooled(moments, config["voice_channels"])[None])
        tokens["g"] = voice["g"][0]
        if latents:
            tokens["g_latent"] = voice["g_latent"][0]
        return tokens

    def decode(self, s: Array, p: Array | None = None, g: Array | None = None, samples: int | None = None) -> Array:
        """Return the waveform of tokens, float32 `(samples,)`.

        Args:
            s: int `(frames,)` or `(frames, codebooks)`.
            p: likewise, of the same duration; None for the learnt null input.
            g: int `(num_g,)`; None for the learnt null input.
            samples: length of the clip; None for all of the last frame.

        Raises:
            ValueError: if tokens are out of range, or lengths do not fit together.
        """
        config = self.config
        hop, size, hops = config["hop"], config["decoder"], config["hops"]
        s = self._stream("s", s)
        samples = int(len(s) * hops["s"] if samples is None else samples)
        if len(s) != -(-samples // hops["s"]):
            raise ValueError(f"{len(s)} tokens of S are not those of {samples} samples; give samples={len(s) * hops['s']}, or the tokens of all")
        p = None if p is None else self._stream("p", p)
        if p is not None and len(p) != -(-samples // hops["p"]):
            raise ValueError(f"{len(p)} tokens of P are not those of {samples} samples; {-(-samples // hops['p'])} are")
        g = np.full((1, config["codebooks"]["g"]), NONE) if g is None else self._checked("g", np.asarray(g).reshape(1, -1))
        if not samples:
            return np.zeros(0, np.float32)
        whole = min(hops["s"], hops["p"]) if p is not None else hops["s"]
        clip = (s, p, g, np.array([-(-samples // whole) * whole]))
        frames, fine, parts = -(-samples // hop), hop // size["hop"], size["subframes"]
        f0, voiced, phase = self._source(clip, frames)
        past, future = size["context_frames"]
        waveform = np.zeros(frames * hop, np.float32)
        for first, last, begin, end in windows(frames, config["decode_core"], past, future, lead=size["lead"]):
            tokens = self._window(clip, begin, end)
            at = begin * fine * parts  # of all frames of the inverse STFT
            offset = at + size["lead"] * fine * parts
            count = (end - begin) * fine * parts
            numbers = at * size["stft_hop"] - 3 * size["stft_hop"] // 2 + np.arange((count + 3) * size["stft_hop"])
            span = slice(offset, offset + count)
            outputs = self._run("wave", *tokens[:3], f0[None, span], voiced[None, span], phase[None, span], white_noise(numbers)[None], *tokens[3:])
            skip = (first - begin) * hop - size["edge"] * size["hop"]
            waveform[first * hop : last * hop] = outputs["waveform"][0, skip : skip + (last - first) * hop]
        return waveform[:samples]

    def _run(self, name: str, *inputs: Array) -> dict[str, Array]:
        """Return the outputs of a graph by name."""
        session = self._sessions[name]
        given = {node.name: value for node, value in zip(session.get_inputs(), inputs, strict=True)}
        return dict(zip((node.name for node in session.get_outputs()), session.run(None, given), strict=True))

    def _stream(self, name: str, tokens: Array) -> Array:
        """Return a stream's tokens, int64 `(frames, codebooks)`."""
        tokens = np.asarray(tokens)
        return self._checked(name, tokens[:, None] if tokens.ndim == 1 else tokens)

    def _checked(self, name: str, tokens: Array) -> Array:
        """Return tokens `(frames, codebooks)` as int64, or raise ValueError."""
        width, size = self.config["codebooks"][name], self.config["codebook_sizes"][name]
        if tokens.ndim != 2 or tokens.dtype.kind not in "iu" or tokens.shape[1] != width:
            raise ValueError(f"tokens of {name} are integers with {width} codebooks, got {tokens.dtype} {tokens.shape}")
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < size:
            raise ValueError(f"tokens of {name} are from 0 to {size - 1}, got {tokens.min()} to {tokens.max()}")
        return tokens.astype(np.int64)

    def _window(self, clip: tuple[Array, Array | None, Array, Array], begin: int, end: int) -> tuple[Array, ...]:
        """Return what the decoder's graphs take of frames of a clip."""
        s, p, g, length = clip
        hop, hops = self.config["hop"], self.config["hops"]
        words = cut(s, begin * hop // hops["s"], end * hop // hops["s"])
        fine = hop // hops["p"]
        none = np.full(((end - begin) * fine, self.config["codebooks"]["p"]), NONE)
        rest = none if p is None else cut(p, begin * fine, end * fine)
        return words[None], rest[None], g, np.array([begin * hop]), length

    def _source(self, clip: tuple[Array, Array | None, Array, Array], frames: int) -> Moments:
        """Return F0, voicing and phase of the frames of the inverse STFT, `lead` frames before and after the clip's included."""
        size, hop = self.config["decoder"], self.config["hop"]
        fine, lead, (past, future) = hop // size["hop"], size["lead"], size["pitch_context_frames"]
        log_f0s: list[Array] = []
        voices: list[Array] = []
        for first, last, begin, end in windows(frames, self.config["decode_core"], past, future):
            outputs = self._run("pitch", *self._window(clip, begin, end))
            span = slice((first - begin) * fine, (last - begin) * fine)
            log_f0s.append(outputs["log_f0"][0, span])
            voices.append(outputs["voiced"][0, span])
        edge = np.zeros(lead * fine, np.float32)
        log_f0, voiced = (np.concatenate([edge, *parts, edge]).astype(np.float64) for parts in (log_f0s, voices))
        f0 = np.exp(np.clip(log_f0, math.log(LEAST_HZ), math.log(MOST_HZ)))
        step = size["hop"] / self.config["sample_rate"]
        phase = running_phase(f0, voiced > 0.5, -lead * fine, step, size["phase_memory"])
        f0, phase = run_through(f0, phase, voiced > 0.5, step, size["subframes"])
        return f0.astype(np.float32), np.repeat(voiced, size["subframes"]).astype(np.float32), phase


def windows(frames: int, core: int, past: int, future: int, lead: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """Yield the frames of each window, and those that it holds with its context, `(first, last, begin, end)`.

    A clip's ends need no context but `lead` frames.
    """
    for first in range(0, frames, core):
        last = min(frames, first + core)
        yield first, last, max(-lead, first - past), min(frames + lead, last + future)


def cut(array: Array, begin: int, end: int) -> Array:
    """Return rows of an array, zeros where it has none."""
    inside = array[max(0, begin) : max(0, end)]
    before, after = max(0, min(end, 0) - begin), max(0, end - max(len(array), begin))
    return np.pad(inside, [(before, after)] + [(0, 0)] * (array.ndim - 1))


def merged(moments: Moments | None, values: Array, weights: Array) -> Moments:
    """Return weight, mean and second moment of frames `(frames, channels)` and of those before them (Chan et al., 1979)."""
    weight = weights.sum(0)
    mean = (weights * values).sum(0) / np.where(weight > 0, weight, 1.0)
    moment = (weights * (values - mean) ** 2).sum(0)
    if moments is None:
        return weight, mean, moment
    total = moments[0] + weight
    delta, share = mean - moments[1], weight / np.where(total > 0, total, 1.0)
    return total, moments[1] + delta * share, moments[2] + moment + delta**2 * moments[0] * share


def pooled(moments: Moments | None, channels: int) -> Array:
    """Return mean and standard deviation, float32 `(2 * channels,)`; of no frames those of zeros."""
    weight, mean, moment = moments or (np.zeros(channels), np.zeros(channels), np.zeros(channels))
    return np.concatenate([mean, np.sqrt(moment / np.where(weight > 0, weight, 1.0) + 1e-6)]).astype(np.float32)


def running_phase(f0: Array, voiced: Array, first: int, step: float, memory: int) -> Array:
    """Return the phase of the first harmonic at each frame, radians: what `unitoken.nn.harmonic.running_phase` returns."""
    turns = np.concatenate([[0.0], ((f0[1:] + f0[:-1]) / 2 * step)]).cumsum()
    at = np.arange(len(f0))
    silent = np.maximum.accumulate(np.where(voiced, -1, at))
    grid = at - (at + first) % memory
    start = np.maximum(np.where((silent >= 0) & (at - silent <= memory), silent, grid), 0)
    return 2 * math.pi * np.modf(turns - turns[start])[0]


def run_through(f0: Array, phase: Array, voiced: Array, step: float, parts: int) -> tuple[Array, Array]:
    """Return F0 and phase in the middle of each of a frame's parts: what `unitoken.nn.harmonic.run_through` returns."""
    if parts == 1:
        return f0, phase
    before, after = np.concatenate([f0[:1], f0[:-1]]), np.concatenate([f0[1:], f0[-1:]])
    spoken = np.concatenate([voiced[:1], voiced, voiced[-1:]])
    before, after = np.where(spoken[:-2], before, f0), np.where(spoken[2:], after, f0)
    at = (np.arange(parts) + 0.5) / parts - 0.5
    slope = np.where(at < 0, before[:, None], after[:, None]) - f0[:, None]
    turns = (at * f0[:, None] + np.abs(at) * at * slope / 2) * step
    ran = np.mod(phase[:, None] + 2 * math.pi * turns, 2 * math.pi)
    return (f0[:, None] + np.abs(at) * slope).ravel(), ran.ravel()


def white_noise(numbers: Array) -> Array:
    """Return the noise of samples' numbers, float32: what `unitoken.nn.noise.white_noise` returns."""
    mask = 0xFFFFFFFF
    x = ((numbers & mask) * 747796405 + 2891336453) & mask
    x = (((x >> ((x >> 28) + 4)) ^ x) * 277803737) & mask
    x = (x >> 22) ^ x
    return ((x / 2**31 - 1) * 3**0.5).astype(np.float32)


def read_wav(path: Path, sample_rate: int) -> Array:
    """Return the samples of a 16-bit WAV file, float32 `(samples,)`.

    Raises:
        ValueError: if it is another file.
    """
    with wav.open(str(path)) as file:
        if file.getsampwidth() != 2 or file.getframerate() != sample_rate:
            raise ValueError(
                f"{path} has {8 * file.getsampwidth()} bits at {file.getframerate()} Hz; make it 16-bit PCM at {sample_rate} Hz, with ffmpeg or sox"
            )
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
    return (pcm / 32768).mean(1).astype(np.float32)


def write_wav(path: Path, waveform: Array, sample_rate: int) -> None:
    """Write a waveform as a 16-bit WAV file."""
    with wav.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.clip(np.round(waveform * 32768), -32768, 32767).astype("<i2").tobytes())


def main() -> None:
    """Encode or decode a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["encode", "decode"])
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    runner = Runner(args.folder, args.threads)
    if args.what == "encode":
        waveform = read_wav(args.source, runner.config["sample_rate"])
        tokens = runner.encode(waveform)
        np.savez(args.output, s=tokens["s"], p=tokens["p"], g=tokens["g"], samples=len(waveform), fingerprint=runner.config["fingerprint"])
        return
    with np.load(args.source) as held:
        if str(held["fingerprint"]) != runner.config["fingerprint"]:
            raise SystemExit(f"{args.source} holds tokens of another model ({held['fingerprint']}), this is {runner.config['fingerprint']}")
        write_wav(args.output, runner.decode(held["s"], held["p"], held["g"], int(held["samples"])), runner.config["sample_rate"])


if __name__ == "__main__":
    main()

"""Signal measures between an original and its decoded version: STOI, extended STOI, wide-band PESQ, mel distance.

All take two float32 `(samples,)` waveforms of equal length at 16 kHz, and return None where the measure is not defined, so that a
summary can count what it leaves out.
"""

import warnings

import torch
from torch import Tensor

from ..errors import AudioError
from .extras import require
from .mel import mel_filters

SAMPLE_RATE = 16000
PESQ_MAX_SECONDS = 20
"""PESQ holds at most 50 utterances of a file and does not check; no clip up to this length can have more."""
MEL_BANDS, MEL_N_FFT, MEL_HOP, MEL_FLOOR = 80, 1024, 160, 1e-4


def _check_pair(reference: Tensor, decoded: Tensor) -> None:
    if reference.ndim != 1 or reference.shape != decoded.shape:
        raise AudioError(
            f"expected two mono waveforms (samples,) of one length, got {tuple(reference.shape)} and {tuple(decoded.shape)}; align and cut them first"
        )


def stoi(reference: Tensor, decoded: Tensor, *, extended: bool = False) -> float | None:
    """Return the short-time objective intelligibility (Taal et al., 2011), at most 1; None below about 0.4 s of speech.

    Args:
        reference: the original.
        decoded: its decoded version.
        extended: ESTOI instead (Jensen and Taal, 2016), which also hears whether a frame's spectrum has its shape.

    Raises:
        AudioError: if the waveforms differ in length.
        MissingDependencyError: without the extra `[evaluate]`.
    """
    _check_pair(reference, decoded)
    pystoi = require("pystoi", "STOI")
    if len(reference) < 0.4 * SAMPLE_RATE or not reference.any():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # pystoi warns and returns 1e-5 when too little speech is left
        try:
            return float(pystoi.stoi(reference.double().numpy(), decoded.double().numpy(), SAMPLE_RATE, extended=extended))
        except RuntimeWarning:
            return None


def pesq_wb(reference: Tensor, decoded: Tensor) -> float | None:
    """Return wide-band PESQ as MOS-LQO (ITU-T P.862.2), about 1 to 4.64; None if it finds no utterance, or past `PESQ_MAX_SECONDS`.

    Raises:
        AudioError: if the waveforms differ in length.
        MissingDependencyError: without the extra `[evaluate]`.
    """
    _check_pair(reference, decoded)
    pesq = require("pesq", "PESQ")
    if not reference.any() or not decoded.any() or len(reference) > PESQ_MAX_SECONDS * SAMPLE_RATE:
        return None
    try:
        return float(pesq.pesq(SAMPLE_RATE, reference.numpy(), decoded.numpy(), "wb"))
    except pesq.PesqError:
        return None


def _log_mel_db(waveform: Tensor) -> Tensor:
    window = torch.hann_window(MEL_N_FFT)
    spectrum = torch.stft(waveform, MEL_N_FFT, MEL_HOP, window=window / window.sum(), pad_mode="constant", return_complex=True)
    filters = mel_filters(MEL_BANDS, MEL_N_FFT, SAMPLE_RATE)
    magnitude = filters / filters.sum(1, keepdim=True) @ spectrum.abs()  # (bands, STFT frames)
    return 20 * magnitude.clamp_min(MEL_FLOOR).log10()


def mel_distance(reference: Tensor, decoded: Tensor) -> float | None:
    """Return the mean absolute difference of the two log-mel spectrograms in dB; 0 is equal, None for no samples.

    80 Slaney bands, Hann window of 64 ms, hop 10 ms; magnitudes below -80 dB of full scale count as -80 dB.

    Raises:
        AudioError: if the waveforms differ in length.
    """
    _check_pair(reference, decoded)
    if not len(reference):
        return None
    return float((_log_mel_db(reference) - _log_mel_db(decoded)).abs().mean())

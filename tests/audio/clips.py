"""Clips as files, made where they are needed."""

import io
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16_000


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * rate)).astype(np.float32)


def tone(seconds: float, rate: int, hertz: float = 440) -> NDArray[np.float32]:
    times_s = np.arange(int(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * times_s)).astype(np.float32)


def file_of(samples: NDArray[Any], rate: int = RATE, kind: str = "WAV", subtype: str = "") -> bytes:
    """`samples` [n] or [n, channels] as a whole file; WAV is 16-bit unless `subtype` differs."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype or None)
    return buffer.getvalue()

"""What is asked of the speech runs, which are a process of their own, and what they found."""

from collections.abc import Sequence

import msgspec

from loadtest.bench_gpu.processes import run_module

SHORTEST_S, LONGEST_S = 1.0, 30.0
FRAMES_PER_S = 50
LIMIT_S = 150.0


class SpeechRuns(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure; `tiny` shrinks the model's layers."""

    device: str
    dtype: str = "bfloat16"
    clips: int = 1024
    longest_s: float = LONGEST_S
    max_batch_size: int = 64
    max_batch_tokens: int = 32 * round(LONGEST_S * FRAMES_PER_S)
    tiny: bool = False


class SpeechWay(msgspec.Struct, frozen=True, kw_only=True):
    """One way to batch. `speed` is seconds of audio a second."""

    name: str
    batches: int
    speed: float
    padding_share: float


class SpeechFindings(msgspec.Struct, frozen=True, kw_only=True):
    ways: Sequence[SpeechWay]
    audio_s: float

    def speed(self, name: str) -> float:
        return next(way.speed for way in self.ways if way.name == name)


def run_speech(runs: SpeechRuns) -> SpeechFindings:
    """Measure in a process of its own. Raises BenchError if that fails."""
    return run_module("loadtest.bench_gpu.speech_runs", runs, SpeechFindings, LIMIT_S)

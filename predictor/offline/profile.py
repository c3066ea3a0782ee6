"""Three ways to batch the same rows, run one after the other on the same device."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from predictor.core.errors import StartupError
from predictor.core.rows import Packing
from predictor.engine.port import DeviceMemoryExhausted, Runner
from predictor.engine.warmup import warm_up
from predictor.offline.clips import Window
from predictor.offline.sampler import BatchSampler
from predictor.policy.service_time import ServiceTimeModel, Work

Batches = Sequence[Sequence[int]]  # indices of rows


@dataclass(frozen=True)
class Measured:
    """What one way to batch came to."""

    name: str
    shapes: Sequence[tuple[int, int]]  # rows and longest tokens of each batch
    tokens: int  # real ones
    audio_s: float
    elapsed_s: float

    @property
    def speed(self) -> float:
        """Seconds of audio in a second."""
        return self.audio_s / self.elapsed_s

    @property
    def padding_share(self) -> float:
        return 1 - self.tokens / sum(rows * longest for rows, longest in self.shapes)


def in_order(
    order: Sequence[int], lengths: Sequence[int], max_batch_size: int, max_batch_tokens: int
) -> list[list[int]]:
    """Consecutive batches of `order`, each as large as the limits allow once it is padded."""
    batches: list[list[int]] = []
    longest = 0
    for index in order:
        longest = max(longest, lengths[index])
        size = len(batches[-1]) + 1 if batches else 0
        if 1 < size <= max_batch_size and size * longest <= max_batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
            longest = lengths[index]
    return batches


class Profile:
    """Compares arrival order, sorted by length, and the split by dynamic programming."""

    def __init__(
        self,
        runner: Runner,
        windows: Sequence[Window],
        *,
        max_batch_size: int,
        max_batch_tokens: int,
        ran: Callable[[str], object] = lambda _: None,
    ) -> None:
        """`ran` is told after each batch which way it belongs to."""
        self._runner = runner
        self._windows = windows
        self._lengths = [window.tokens for window in windows]
        self._max_batch_size = max_batch_size
        self._max_batch_tokens = max_batch_tokens
        self._ran = ran

    def run(self) -> list[Measured]:
        """FIFO, sorted and DP, in this order. Raises StartupError if a batch does not fit.

        A first pass in arrival order is not measured: it warms the device up, and teaches
        the service-time model that the split minimises.
        """
        service = warm_up(self._runner, Packing.PADDED)
        everything = range(len(self._lengths))
        fifo = self._in_order(everything)
        by_length = sorted(everything, key=self._lengths.__getitem__)
        self._measure("warm-up", fifo, service)
        return [
            self._measure("FIFO", fifo),
            self._measure("sorted", self._in_order(by_length)),
            self._measure("DP", self._split(service)),
        ]

    def _in_order(self, order: Sequence[int]) -> Batches:
        return in_order(order, self._lengths, self._max_batch_size, self._max_batch_tokens)

    def _split(self, service: ServiceTimeModel) -> Batches:
        sampler = BatchSampler(
            self._lengths,
            max_batch_size=self._max_batch_size,
            max_batch_tokens=self._max_batch_tokens,
            cost=service,
        )
        return list(sampler)

    def _measure(
        self, name: str, batches: Batches, service: ServiceTimeModel | None = None
    ) -> Measured:
        speech = self._runner.spec.speech
        assert speech is not None
        elapsed_s = 0.0
        shapes = []
        for batch in batches:
            rows = [self._windows[index].samples.tobytes() for index in batch]
            longest = max(self._lengths[index] for index in batch)
            began_s = time.perf_counter()
            try:
                self._runner.run(rows, Packing.PADDED)
            except DeviceMemoryExhausted as error:
                raise StartupError(f"{error}; use a smaller --max_batch_tokens") from None
            took_s = time.perf_counter() - began_s
            elapsed_s += took_s
            shapes.append((len(batch), longest))
            if service is not None:
                service.learn(Work.alike(len(batch), longest), took_s)
            self._ran(name)
        samples = sum(window.samples.size for window in self._windows)
        return Measured(name, shapes, sum(self._lengths), samples / speech.sampling_rate, elapsed_s)

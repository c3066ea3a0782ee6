"""What no policy can beat: exact optima of small queueing problems, to hold ours against.

Both are for rows that are all alike, with service time l(b) for b of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ServiceLine = Callable[[int], float]
Floats = npt.NDArray[np.float64]


def clairvoyant_goodput(
    arrivals_s: Sequence[float], slo_s: float, service_s: ServiceLine, max_rows: int
) -> int:
    """Most rows that can end within `slo_s` of their arrival, knowing all arrivals ahead.

    With one SLO for all, some optimal schedule serves rows in arrival order in batches that
    are contiguous but for dropped rows. F[i][k], the earliest finish of the first i rows
    with k of them dropped, obeys

        F[i][k] = min(F[i-1][k-1], min over b of max(F[i-b][k], a_i) + l(b)),

    where the second holds if that is no later than the deadline of row i-b+1.
    O(rows * dropped * max_rows) time.
    """
    count = len(arrivals_s)
    most_dropped = count
    finish = np.full((count + 1, most_dropped + 1), np.inf)
    finish[0, 0] = -np.inf
    services = [service_s(b) for b in range(1, max_rows + 1)]
    for i in range(1, count + 1):
        reach = i + 1  # no more than i rows can have been dropped
        row = finish[i]
        row[1:reach] = finish[i - 1, : reach - 1]
        arrival_s = arrivals_s[i - 1]
        for b in range(1, min(max_rows, i) + 1):
            deadline_s = arrivals_s[i - b] + slo_s
            if arrival_s + services[b - 1] > deadline_s:
                break
            ends = np.maximum(finish[i - b, :reach], arrival_s) + services[b - 1]
            ends[ends > deadline_s] = np.inf
            np.minimum(row[:reach], ends, out=row[:reach])
    dropped = int(np.argmax(finish[count] < np.inf))
    return count - dropped


@dataclass(frozen=True, slots=True)
class BatchingOptimum:
    """`starts[n]`: how many rows to start with n waiting and the device free; 0: wait."""

    mean_latency_s: float
    starts: Sequence[int]


def optimal_batching(
    rate: float,
    service_s: ServiceLine,
    max_rows: int,
    max_queue: int = 300,
    tolerance: float = 1e-4,
) -> BatchingOptimum:
    """The policy of least mean latency for Poisson arrivals, `rate` a second.

    A semi-Markov decision process, solved by relative value iteration over its decision
    epochs: the device is free, n rows wait; start b <= min(n, max_rows) of them, or wait for
    the next arrival. The cost is the number of rows in the system over time, so by Little's
    law its average over the rate is the mean latency. The queue is cut at `max_queue`,
    which must be rarely reached.
    """
    waiting = np.arange(max_queue + 1)
    sizes = np.arange(1, max_rows + 1)
    lasts_s = np.array([service_s(int(b)) for b in sizes])
    step_s = 0.999 * min(1.0 / rate, float(lasts_s.min()))
    # Rows in the system while a batch runs: those there at its start, and on average half of
    # those that come.
    cost = waiting[None, :] + 0.5 * rate * lasts_s[:, None]
    after_batch = _Expectation(rate * lasts_s, max_queue)
    left = waiting[None, :] - sizes[:, None]
    possible = left >= 0
    left = np.where(possible, left, 0)
    value = np.zeros(max_queue + 1)
    while True:
        # Schweitzer's transformation: an action lasting t is one step with chance step_s / t.
        wait = waiting + (value[np.minimum(waiting + 1, max_queue)] - value) * step_s * rate
        ahead = np.take_along_axis(after_batch.of(value), left, axis=1)
        start = cost + (ahead - value[None, :]) * (step_s / lasts_s[:, None])
        start = np.where(possible, start, np.inf)
        change = np.minimum(wait, start.min(axis=0))
        value += change - change[0]
        if change.max() - change.min() < tolerance * abs(change.max()):
            best = np.where(wait <= start.min(axis=0), 0, start.argmin(axis=0) + 1)
            gain = 0.5 * float(change.max() + change.min())
            return BatchingOptimum(gain / rate, [int(b) for b in best])


class _Expectation:
    """E[value[min(n + K, last]]] for K Poisson of each of several means, for all n at once.

    A correlation with the Poisson weights, done by Fourier transforms.
    """

    def __init__(self, means: Floats, last: int) -> None:
        self._last = last
        counts = np.arange(last + 2)
        log_factorials = np.concatenate(([0.0], np.cumsum(np.log(counts[1:]))))
        logs = counts[None, :] * np.log(means)[:, None] - means[:, None] - log_factorials[None, :]
        weights = np.exp(logs)
        weights[:, -1] += np.maximum(1.0 - weights.sum(axis=1), 0.0)  # all beyond end up last
        self._length = 1 << (2 * last + 3).bit_length()  # nothing wraps around
        self._weights = np.conj(np.fft.rfft(weights, self._length, axis=1))

    def of(self, value: Floats) -> Floats:
        """Shape [means, last + 1]."""
        beyond = np.full(self._last + 2, value[-1])
        spectrum = np.fft.rfft(np.concatenate((value, beyond)), self._length)
        correlated = np.fft.irfft(self._weights * spectrum[None, :], self._length, axis=1)
        result: Floats = correlated[:, : self._last + 1]
        return result

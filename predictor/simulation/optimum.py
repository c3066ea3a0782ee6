"""What no policy can beat: exact optima of small queueing problems, to hold ours against.

Both are for rows that are all alike, with service time l(b) for b of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ServiceLine = Callable[[int], float]
Floats = npt.NDArray[np.float64]

_BAND = 64


def clairvoyant_goodput(
    arrivals_s: Sequence[float], slo_s: float, service_s: ServiceLine, max_rows: int
) -> int:
    """Most rows that can end within `slo_s` of their arrival, knowing all arrivals ahead.

    With one SLO for all, some optimal schedule serves rows in arrival order in batches that
    are contiguous but for dropped rows. F[i][k], the earliest finish of the first i rows
    with k of them dropped, obeys

        F[i][k] = min(F[i-1][k-1], min over b of max(F[i-b][k], a_i) + l(b)),

    where the second holds if that is no later than the deadline of row i-b+1. To drop more
    than lets the device be free at the next arrival gains nothing, so only some k in a row
    need be kept for each i: those of the last `max_rows` i are a band of a few hundred columns.
    """
    sizes = [b for b in range(1, max_rows + 1) if service_s(b) <= slo_s]
    if not sizes:
        return 0
    lasts_s = np.array([[service_s(b)] for b in sizes])
    longest = len(sizes)
    deadlines_s = np.concatenate((np.full(longest, -np.inf), np.array(arrivals_s) + slo_s))
    recent_s = np.full((longest, _BAND), np.inf)  # F[i-1], F[i-2], ... from `dropped` on
    recent_s[0, 0] = -np.inf
    dropped = 0
    for i, arrival_s in enumerate(arrivals_s, start=1):
        if recent_s[0, -1] < np.inf:
            recent_s, moved = _moved_left(recent_s)
            dropped += moved
        ends_s = np.maximum(recent_s, arrival_s) + lasts_s
        ends_s[ends_s > deadlines_s[i : i + longest][::-1, None]] = np.inf
        finish_s = ends_s.min(axis=0)
        finish_s[1:] = np.minimum(finish_s[1:], recent_s[0, :-1])
        if i < len(arrivals_s):
            free = finish_s <= arrivals_s[i]
            if free.any():
                finish_s[int(np.argmax(free)) + 1 :] = np.inf
        recent_s = np.vstack((finish_s, recent_s[:-1]))
    return len(arrivals_s) - dropped - int(np.argmax(recent_s[0] < np.inf))


def _moved_left(band: Floats) -> tuple[Floats, int]:
    """The band without its empty columns on the left, and with room on the right."""
    empty = int(np.argmax((band < np.inf).any(axis=0)))
    used = band.shape[1] - empty
    moved = np.full((len(band), max(_BAND, 2 * used)), np.inf)
    moved[:, :used] = band[:, empty:]
    return moved, empty


@dataclass(frozen=True, slots=True)
class BatchingOptimum:
    """`starts[n]`: how many rows to start with n waiting and the device free; 0: wait."""

    mean_latency_s: float
    starts: Sequence[int]


def optimal_batching(
    rate: float, service_s: ServiceLine, max_rows: int, max_queue: int = 300
) -> BatchingOptimum:
    """The policy of least mean latency for Poisson arrivals, `rate` a second.

    A semi-Markov decision process over its decision epochs: the device is free, n rows wait;
    start b <= min(n, max_rows) of them, or wait for the next arrival. The cost is the number
    of rows in the system over time, so by Little's law its average over the rate is the mean
    latency. The queue is cut at `max_queue`, which must be rarely reached.

    Solved by Howard's policy iteration, which ends at the same optimum as value iteration,
    after a few linear systems instead of thousands of sweeps.
    """
    actions = [_wait(rate, max_queue)]
    actions += [_start(b, rate, service_s(b), max_queue) for b in range(1, max_rows + 1)]
    states = np.arange(max_queue + 1)
    starts = np.minimum(states, max_rows)
    while True:
        gain, value = _evaluate([actions[b] for b in starts])
        costs = np.array([action.cost_of(value, gain) for action in actions])
        settled = costs[starts, states]
        better = costs.min(axis=0) < settled - 1e-9 * np.maximum(np.abs(settled), gain / rate)
        if not better.any():
            return BatchingOptimum(gain / rate, [int(b) for b in starts])
        starts = np.where(better, costs.argmin(axis=0), starts)


@dataclass(frozen=True, slots=True)
class _Action:
    """What may be done at a decision epoch, in every state (n rows wait) at once."""

    takes: int  # rows that leave the queue; it is possible where so many wait
    lasts_s: float
    cost: Floats  # rows in the system, integrated over its time
    arrivals: Floats  # chance of 0, 1, ... arrivals meanwhile

    def cost_of(self, value: Floats, gain: float) -> Floats:
        """Relative cost from here on in each state; inf where it is not possible."""
        padded = np.concatenate((value, np.full(len(self.arrivals) - 1, value[-1])))
        after = np.convolve(padded, self.arrivals[::-1], mode="valid")
        total = np.full(len(value), np.inf)
        total[self.takes :] = after[: len(value) - self.takes]
        return total + self.cost - gain * self.lasts_s

    def leads_to(self, waiting: int) -> Floats:
        """Chance of each state at the next epoch; all beyond the last state end up in it."""
        left = waiting - self.takes
        room = len(self.cost) - left
        chances = np.zeros(len(self.cost))
        chances[left:] = self.arrivals[:room]
        chances[-1] += self.arrivals[room:].sum()
        return chances


def _wait(rate: float, max_queue: int) -> _Action:
    arrivals = np.zeros(max_queue + 2)
    arrivals[1] = 1.0
    return _Action(0, 1.0 / rate, np.arange(max_queue + 1) / rate, arrivals)


def _start(rows: int, rate: float, lasts_s: float, max_queue: int) -> _Action:
    """Rows there at the start stay in the system all through, others from their arrival."""
    there = np.arange(max_queue + 1, dtype=np.float64)
    cost = there * lasts_s + 0.5 * rate * lasts_s**2
    count = np.arange(1, max_queue + 2)
    mean = rate * lasts_s
    log_chances = np.concatenate(([0.0], np.cumsum(np.log(mean / count)))) - mean
    arrivals = np.exp(log_chances)
    arrivals[-1] += max(1.0 - arrivals.sum(), 0.0)
    return _Action(rows, lasts_s, cost, arrivals)


def _evaluate(policy: Sequence[_Action]) -> tuple[float, Floats]:
    """Mean cost a second of a policy, and the relative value of each state (0 with none)."""
    size = len(policy)
    system = np.eye(size) - np.array([action.leads_to(n) for n, action in enumerate(policy)])
    system[:, 0] = [action.lasts_s for action in policy]  # its value is known: solve for the gain
    costs = np.array([action.cost[n] for n, action in enumerate(policy)])
    solved = np.linalg.solve(system, costs)
    gain = float(solved[0])
    solved[0] = 0.0
    return gain, solved

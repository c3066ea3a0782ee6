"""What no policy can beat: exact optima of small queueing problems, to hold ours against.

Both are for rows that are all alike, with service time l(b) for b of them.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

Affine = Callable[[int], float]


def clairvoyant_goodput(
    arrivals_s: Sequence[float], slo_s: float, service_s: Affine, max_rows: int
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


def optimal_mean_latency_s(
    rate: float, service_s: Affine, max_rows: int, max_queue: int = 400, tolerance: float = 1e-9
) -> tuple[float, list[int]]:
    """Least mean latency of any policy that batches Poisson arrivals, and its policy.

    A semi-Markov decision process, solved by relative value iteration on decision epochs
    (the device is free, n rows wait): start a batch of b <= min(n, max_rows), or wait for
    the next arrival. Cost is the number of rows in the system over time; by Little's law
    its average over the rate is the mean latency. Returns (seconds, rows to start with n
    waiting; 0: wait). The queue is cut at `max_queue`, which must be rarely reached.
    """
    states = np.arange(max_queue + 1)
    step_s = min(1.0 / rate, service_s(1)) * 0.999
    actions = [_serve(rate, service_s(b), max_queue) for b in range(1, max_rows + 1)]
    value = np.zeros(max_queue + 1)
    wait_next = np.minimum(states + 1, max_queue)
    while True:
        # Data transformation: an action lasting t is one step with probability step_s / t.
        best = states + (value[wait_next] - value) * step_s * rate + value
        choice = np.zeros(max_queue + 1, dtype=np.int64)
        for b, (cost, reach, lasts_s) in enumerate(actions, start=1):
            after = reach[:, : max_queue + 1] @ value
            candidate = np.full(max_queue + 1, np.inf)
            candidate[b:] = (
                cost[b:] / lasts_s + (after[: max_queue + 1 - b] - value[b:]) * step_s / lasts_s
            ) + value[b:]
            better = candidate < best
            best = np.where(better, candidate, best)
            choice = np.where(better, b, choice)
        change = best - value
        value = best - best[0]
        if change.max() - change.min() < tolerance * max(abs(change.max()), 1.0):
            gain = 0.5 * (change.max() + change.min())
            return float(gain / rate), [int(b) for b in choice]


def _serve(
    rate: float, lasts_s: float, max_queue: int
) -> tuple[
    "np.ndarray[tuple[int], np.dtype[np.float64]]",
    "np.ndarray[tuple[int, int], np.dtype[np.float64]]",
    float,
]:
    """Cost of a batch from each state, where it leads (from n - b left), and its length.

    Cost is the integral of the rows in the system: those there at the start stay all
    through, those arriving count from their arrival: n * t + rate * t^2 / 2.
    """
    states = np.arange(max_queue + 1, dtype=np.float64)
    cost = states * lasts_s + 0.5 * rate * lasts_s**2
    mean = rate * lasts_s
    arrivals = np.zeros(max_queue + 1)
    log_p = -mean
    for k in range(max_queue + 1):
        arrivals[k] = math.exp(log_p)
        log_p += math.log(mean / (k + 1))
    reach = np.zeros((max_queue + 1, max_queue + 1))
    for left in range(max_queue + 1):
        room = max_queue - left
        reach[left, left:] = arrivals[: room + 1]
        reach[left, max_queue] += max(1.0 - arrivals[: room + 1].sum(), 0.0)
    return cost, reach, lasts_s

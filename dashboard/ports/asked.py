"""What is asked about: a stretch of time, and whose replicas."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, in Unix seconds."""

    start_s: float
    end_s: float
    moves: bool = False  # its end is now

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    @staticmethod
    def last(duration_s: float, now_s: float) -> "Window":
        return Window(now_s - duration_s, now_s, moves=True)


class Pool(StrEnum):
    """Which kind of nodes a replica runs on."""

    SPOT = "spot"
    ON_DEMAND = "on-demand"
    UNKNOWN = "unknown"  # the scrape does not say


@dataclass(frozen=True, slots=True)
class Filter:
    """What to look at; an empty tuple means all."""

    models: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    pools: tuple[Pool, ...] = ()


ALL = Filter()

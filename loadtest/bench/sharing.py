"""What urgent and bulk requests got of one device that they shared, and what they were promised.

An urgent row that comes waits for one batch with bulk rows in it at most, and then rides in one
that bulk rows have filled up. So its p99 may be what it is alone, and one slice, and what that
top-up added to its own batches. What urgent rows leave of the device is for bulk.
"""

import msgspec

from loadtest.bench.plan import RunReport, Spread

REQUIRED_BULK_RATIO = 0.85


class Sharing(msgspec.Struct, frozen=True, kw_only=True):
    """`alone`: the same interactive traffic without bulk. `best`: bulk alone, of the same run."""

    alone: RunReport
    interactive: RunReport
    bulk: RunReport
    best_tokens_per_s: float
    slo_ms: float

    @property
    def load(self) -> float:
        """Interactive work that arrived over what the device does at best."""
        seen = self.interactive
        tokens_per_s = seen.scheduled * seen.mean_tokens / seen.seconds
        return tokens_per_s / self.best_tokens_per_s if self.best_tokens_per_s else 0.0

    @property
    def slice_ms(self) -> float:
        """The longest batch with bulk rows in it."""
        return self.bulk.service.max_ms if self.bulk.service else 0.0

    @property
    def growth_ms(self) -> float:
        """What top-up added to the batches of interactive rows, at p99."""
        return max(0.0, p99_ms(self.interactive.service) - p99_ms(self.alone.service))

    @property
    def allowed_ms(self) -> float:
        """The highest p99 of interactive requests that holds the promise."""
        return min(self.slo_ms, p99_ms(self.alone.latency) + self.slice_ms + self.growth_ms)

    @property
    def in_time(self) -> float:
        """Share of interactive requests."""
        return self.interactive.within_slo / max(1, self.interactive.scheduled)

    @property
    def bulk_ratio(self) -> float:
        """Bulk tokens/s over those that interactive rows leave."""
        left = (1.0 - self.load) * self.best_tokens_per_s
        return self.bulk.finished_tokens_per_s / left if left > 0 else 0.0

    @property
    def is_prompt(self) -> bool:
        return self.interactive.latency is not None and (
            self.interactive.latency.p99_ms <= self.allowed_ms
        )

    @property
    def is_efficient(self) -> bool:
        return self.bulk_ratio >= REQUIRED_BULK_RATIO

    @property
    def held(self) -> bool:
        return self.is_prompt and self.is_efficient


def p99_ms(spread: Spread | None) -> float:
    return spread.p99_ms if spread else 0.0

"""What a k6 run measured, as its summary tells it (loadtest/lib/summary.js writes it)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from loadtest.bench.errors import BenchError

MAX_SUMMARY_BYTES = 16 << 20


class TierResult(msgspec.Struct, frozen=True, kw_only=True):
    """Of the requests of one tier. Times in ms, as the client saw them, of those that are `ok`."""

    requests: int
    ok: int  # answered 200, and every check passed
    within_slo: int  # of those, within the tier's SLO
    refused: int  # status 429 or RESOURCE_EXHAUSTED
    failed: int  # anything else: status, transport, a check
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    failures: Mapping[str, int] = {}  # how `failed` came about: late, transport, wrong…
    # As the server says in its answers: means.
    queue_mean_ms: float = 0.0
    service_mean_ms: float = 0.0
    batch_size_mean: float = 0.0


class PhaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a run, all tiers together: a step of a ramp, a mix of lengths, calm or spike."""

    name: str
    seconds: float
    rate: float  # requests a second, as sent
    measured: TierResult


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """`validity`: a run that misses it did not send the load that was asked for."""

    text: str
    seen: str
    ok: bool
    validity: bool

    def __str__(self) -> str:
        return f"{self.text}; seen {self.seen}"


class K6Result(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run.

    It is invalid where the load was not what was asked: iterations were dropped, or k6 was so late
    itself that it missed thresholds of time.
    """

    script: str
    settings: Mapping[str, str]
    seconds: float  # of load, as planned
    dropped: int
    tiers: Mapping[str, TierResult]
    thresholds_ok: bool
    folder: Path  # run.json (settings, generation, revision, machine) and summary.json lie there
    phases: Sequence[PhaseResult] = ()
    thresholds: Sequence[Threshold] = ()
    lag_p99_ms: float = 0.0  # how much later than planned k6 sent; the latencies include it

    @property
    def valid(self) -> bool:
        return self.dropped == 0 and all(each.ok for each in self.thresholds if each.validity)

    @property
    def verdict(self) -> str:
        """INVALID says nothing of the server; the reasons stand behind it."""
        if self.thresholds_ok and self.valid:
            return "passed"
        return f"{'FAILED' if self.valid else 'INVALID'}: {self.missed}"

    @property
    def missed(self) -> str:
        """The thresholds that were not met, in a sentence; empty where there are none."""
        return ". ".join(str(each) for each in self.thresholds if not each.ok)


class _Summary(msgspec.Struct, frozen=True):
    script: str
    settings: Mapping[str, str]
    seconds: float
    dropped: int
    lag_p99_ms: float
    tiers: Mapping[str, TierResult]
    phases: Sequence[PhaseResult]
    thresholds: Sequence[Threshold]


def read_summary(path: Path) -> K6Result:
    """The result in a summary.json. Raises BenchError if there is none or it is another file."""
    try:
        with path.open("rb") as file:
            document = file.read(MAX_SUMMARY_BYTES + 1)
        if len(document) > MAX_SUMMARY_BYTES:
            raise BenchError(f"{path} is over {MAX_SUMMARY_BYTES} bytes; it is no summary of a run")
        summary = msgspec.json.decode(document, type=_Summary)
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror}; run the script again") from None
    except msgspec.DecodeError as error:
        raise BenchError(f"{path} is no summary of a run: {error}; run the script again") from None
    return K6Result(
        **{name: getattr(summary, name) for name in _Summary.__struct_fields__},
        thresholds_ok=all(each.ok for each in summary.thresholds),
        folder=path.parent,
    )

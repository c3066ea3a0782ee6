"""What is asked of the device runs, which are a process of their own, and what they found."""

from collections.abc import Sequence

import msgspec

from loadtest.bench_gpu.processes import run_module

LIMIT_S = 240.0


class DeviceRuns(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure. Each figure takes `seconds`."""

    model_dir: str
    device: str
    dtype: str = "bfloat16"
    seconds: float = 2.5
    token_budgets: Sequence[int] = (8192, 16_384, 32_768)
    padded_rows: Sequence[int] = (32, 64, 128)
    submissions: int = 256  # in flight at the engine
    max_batch_size: int = 512
    max_batch_tokens: int = 16_384


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Real tokens count; `padding_share` is of all tokens computed."""

    label: str
    tokens_per_s: float
    rows_per_s: float
    batch_ms: float
    padding_share: float


class DeviceFindings(msgspec.Struct, frozen=True, kw_only=True):
    offline: Sequence[Throughput]
    eager: Sequence[Throughput]
    padded: Sequence[Throughput]
    engine: Throughput
    packed: bool  # whether the runner packs at all
    loading_s: float

    @property
    def best(self) -> Throughput:
        return max(self.offline, key=lambda each: each.tokens_per_s)


def run_on_device(runs: DeviceRuns) -> DeviceFindings:
    """Measure in a process of its own. Raises BenchError if that fails."""
    return run_module("loadtest.bench_gpu.device_runs", runs, DeviceFindings, LIMIT_S)

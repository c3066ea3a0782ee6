"""How long and how finely the GPU benchmarks measure: the whole takes less than 8 minutes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuPace:
    """How long and how finely to measure."""

    device_s: float  # one figure of the device
    run_s: float  # one run against a server
    probe_s: float  # one run of a capacity search
    low_load_s: float
    resolution: float
    max_probes: int
    search_limit_s: float


FULL = GpuPace(
    device_s=2.5,
    run_s=5,
    probe_s=3,
    low_load_s=8,
    resolution=1.05,
    max_probes=12,
    search_limit_s=60,
)
TINY = GpuPace(
    device_s=0.4,
    run_s=1,
    probe_s=1,
    low_load_s=2,
    resolution=1.5,
    max_probes=4,
    search_limit_s=12,
)

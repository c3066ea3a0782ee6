"""What NVML says of the GPUs that this process sees. Nothing, where there is none."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pynvml

from predictor.devices import nvml_uuids, visible_indices

_log = logging.getLogger(__name__)
_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """One GPU now. A value that the device cannot tell (a MIG slice, say) is None."""

    device: str  # NVML's index
    utilisation: float | None  # 0 to 1
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    power_watts: float | None = None


DeviceReader = Callable[[], Sequence[DeviceReading]]


def no_devices() -> Sequence[DeviceReading]:
    return ()


def nvml_reader() -> DeviceReader:
    """A reader of the GPUs seen, or of none where NVML or a GPU is missing. Never raises."""
    indices = visible_indices(os.environ, nvml_uuids())
    if not indices:
        if _DRIVER.exists():  # without one, that there is no GPU is no news
            _log.warning("no GPU metrics: NVML knows no GPU that is seen here")
        return no_devices
    return lambda: [_read(index) for index in indices]


def _read(index: int) -> DeviceReading:
    utilisation = memory_used_bytes = memory_total_bytes = power_watts = None
    # In this order: a MIG slice tells its memory and no utilisation, a lost device nothing.
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        memory_used_bytes, memory_total_bytes = int(memory.used), int(memory.total)
        utilisation = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
        power_watts = pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3
    except pynvml.NVMLError as error:
        _log.debug("GPU %d does not tell all: %s", index, error)
    return DeviceReading(
        str(index), utilisation, memory_used_bytes, memory_total_bytes, power_watts
    )

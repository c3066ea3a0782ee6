"""Which CUDA devices there are to give to engines. Imports no model library."""

from collections.abc import Mapping, Sequence

import pynvml

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_devices(environment: Mapping[str, str]) -> Sequence[str]:
    """A name for CUDA_VISIBLE_DEVICES for each device; empty where there is none."""
    listed = environment.get(VISIBLE)
    if listed is None:
        return _uuids()
    devices: list[str] = []
    for name in map(str.strip, listed.split(",")):
        if not name or name == "-1":  # CUDA, too, ends the list here
            break
        devices.append(name)
    return devices


def _uuids() -> Sequence[str]:
    # Not numbers: CUDA and NVML need not count in the same order.
    try:
        pynvml.nvmlInit()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except pynvml.NVMLError:
        return []

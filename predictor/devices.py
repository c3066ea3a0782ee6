"""Which GPUs this process sees, without a model library."""

from collections.abc import Mapping, Sequence

import pynvml

VISIBLE = "CUDA_VISIBLE_DEVICES"


def nvml_uuids() -> Sequence[str]:
    """One for each GPU, in NVML's order; empty where NVML or a GPU is missing."""
    try:
        pynvml.nvmlInit()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except pynvml.NVMLError:
        return []


def visible_devices(environment: Mapping[str, str], uuids: Sequence[str]) -> Sequence[str]:
    """A name for CUDA_VISIBLE_DEVICES for each device that may be used.

    All of `uuids` where nothing is set: CUDA need not number the devices as NVML does.
    """
    listed = environment.get(VISIBLE)
    if listed is None:
        return uuids
    devices: list[str] = []
    for name in map(str.strip, listed.split(",")):
        if not name or name == "-1":  # CUDA, too, ends the list here
            break
        devices.append(name)
    return devices


def visible_indices(environment: Mapping[str, str], uuids: Sequence[str]) -> Sequence[int]:
    """NVML's numbers of those devices; of all where they are parts of devices (MIG)."""
    names = visible_devices(environment, uuids)
    if any(name.startswith("MIG-") for name in names):
        return range(len(uuids))
    return [
        index
        for index, uuid in enumerate(uuids)
        if any(name == str(index) or uuid.startswith(name) for name in names)
    ]

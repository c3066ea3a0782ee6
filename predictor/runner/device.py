"""Where a model computes: device, number format and CPU threads."""

import math
import os
from pathlib import Path

import torch
from torch import nn

from predictor.core.errors import StartupError

_CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")


def choose_device(asked: str) -> torch.device:
    """auto, cpu, cuda or cuda:N as a device. Raises StartupError if this machine has none."""
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(asked)
    if device.type == "cpu":
        return device
    if not torch.cuda.is_available():
        raise StartupError(
            f"device {asked} was asked for, but torch {torch.__version__} sees no CUDA device;"
            " check the driver and the GPU limit of the container, or use device cpu or auto"
        )
    index = device.index or 0
    if index >= torch.cuda.device_count():
        raise StartupError(
            f"device {asked} does not exist; this machine has cuda:0 to"
            f" cuda:{torch.cuda.device_count() - 1}"
        )
    return torch.device("cuda", index)


def choose_dtype(asked: str, device: torch.device) -> torch.dtype:
    """The number format of weights and activations; auto is the device's fast one."""
    if asked != "auto":
        return {
            "float32": torch.float32,
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
        }[asked]
    if device.type == "cpu":
        return torch.float32
    # GPUs before Ampere only emulate bfloat16, slowly.
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def move_to(device: torch.device, model: nn.Module, name: str) -> None:
    """Bring a model's weights to its device. Raises StartupError if they do not fit."""
    try:
        model.to(device)
    except torch.OutOfMemoryError:
        raise StartupError(
            f"model {name!r} does not fit into the memory of {device}; use a smaller"
            " model, another device or a 16-bit dtype"
        ) from None


def use_cpu_cores() -> None:
    """Give torch all cores but one, which the edge and the engine's loop need.

    OMP_NUM_THREADS wins where it is set.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, usable_cores() - 1))


def usable_cores() -> int:
    """Cores that this process may use; a container's CPU limit counts, if it has one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    try:
        quota, period = _CGROUP_CPU.read_text().split()
        return min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return cores

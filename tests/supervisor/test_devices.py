"""Which devices engines may have."""

import pytest

from predictor.supervisor.devices import visible_devices


@pytest.mark.parametrize(
    ("listed", "devices"),
    [
        ("0", ["0"]),
        ("3, 1", ["3", "1"]),
        ("GPU-8932f937,GPU-2a3d1c2b", ["GPU-8932f937", "GPU-2a3d1c2b"]),
        ("0,-1,1", ["0"]),
        ("", []),
        ("-1", []),
    ],
)
def test_the_environment_says_which(listed: str, devices: list[str]) -> None:
    assert visible_devices({"CUDA_VISIBLE_DEVICES": listed}) == devices


def test_without_a_list_they_are_those_that_nvml_knows() -> None:
    assert all(device.startswith(("GPU-", "MIG-")) for device in visible_devices({}))

"""Which GPUs an engine may have, and which of them its metrics are about."""

import pytest

from predictor.devices import nvml_uuids, visible_devices, visible_indices

UUIDS = ["GPU-8932f937", "GPU-2a3d1c2b", "GPU-2b000000"]


@pytest.mark.parametrize(
    ("listed", "devices", "indices"),
    [
        (None, UUIDS, [0, 1, 2]),
        ("0", ["0"], [0]),
        ("2, 1", ["2", "1"], [1, 2]),
        ("GPU-2a3d1c2b,GPU-89", ["GPU-2a3d1c2b", "GPU-89"], [0, 1]),
        ("0,-1,1", ["0"], [0]),
        ("MIG-1", ["MIG-1"], [0, 1, 2]),
        ("7", ["7"], []),
        ("", [], []),
        ("-1", [], []),
    ],
)
def test_the_environment_says_which(
    listed: str | None, devices: list[str], indices: list[int]
) -> None:
    environment = {} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}
    assert list(visible_devices(environment, UUIDS)) == devices
    assert list(visible_indices(environment, UUIDS)) == indices


def test_nvml_names_devices_or_none() -> None:
    assert all(uuid.startswith("GPU-") for uuid in nvml_uuids())

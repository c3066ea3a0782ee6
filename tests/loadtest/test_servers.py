"""Starting servers: what they are told, and what a failed start says."""

import pytest

from loadtest.bench.errors import BenchError
from loadtest.bench.scenarios.simulated import (
    PACKED_ADAPTIVE,
    PACKED_CONSTANT,
    PADDED_ADAPTIVE,
    PADDED_CONSTANT,
    Setup,
    bound_per_s,
)
from loadtest.bench.servers import (
    ServerCommand,
    free_ports,
    parameter_document,
    running_server,
)
from predictor.core.parameters import parse_document


@pytest.mark.parametrize(
    "setup", [PACKED_ADAPTIVE, PADDED_ADAPTIVE, PACKED_CONSTANT, PADDED_CONSTANT]
)
def test_the_server_reads_the_parameters_that_were_meant(setup: Setup) -> None:
    parameters = setup.command().parameters
    assert parameters is not None
    assert parse_document(parameter_document(parameters)) == parameters
    assert parameters.default_tier == "interactive"


def test_the_bound_is_that_of_the_issue() -> None:
    assert bound_per_s(89.0) == pytest.approx(1033, abs=1)


def test_ports_are_different() -> None:
    assert len(set(free_ports(10))) == 10


def test_a_server_that_ends_at_once_says_why() -> None:
    command = ServerCommand(module="loadtest.bench.absent", model="m")
    with (
        pytest.raises(BenchError, match=r"ended with code 1(?s:.)*No module named"),
        running_server(command),
    ):
        raise AssertionError("it cannot be ready")

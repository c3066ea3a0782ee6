"""What `make up` would start, and what it refuses."""

import json
import os
import shlex
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from dashboard.settings import VARIABLES, read_settings
from predictor.core.model import ModelSettings, Task
from predictor.core.parameters import (
    DEFAULT_PARAMETERS,
    GENERATING_PARAMETERS,
    parse_document,
)
from predictor.first_steps import curl
from predictor.local.__main__ import create_parameters_file, main
from predictor.local.dashboard import create_price_table
from predictor.local.flags import parse
from predictor.local.ports import ports_problem
from predictor.local.together import Service, port_problem
from tests.local.services import free_port

Stages = Sequence[Sequence[Service]]


class Started:
    """Stands for the running: keeps what would be started, and the welcome."""

    def __init__(self) -> None:
        self.runs: list[Stages] = []
        self.welcome = ""

    async def __call__(self, stages: Stages, welcome: str) -> int:
        self.runs.append(stages)
        self.welcome = welcome
        return 0

    @property
    def last(self) -> Mapping[str, Service]:
        return {service.name: service for stage in self.runs[-1] for service in stage}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Started:
    monkeypatch.chdir(tmp_path)
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    made = Started()
    monkeypatch.setattr("predictor.local.__main__.run_together", made)
    monkeypatch.setattr("predictor.local.__main__.ports_problem", lambda *_, **__: "")
    monkeypatch.setattr("predictor.local.__main__.obtain_prometheus", lambda _: "/no/prometheus")
    return made


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


def test_two_replicas_share_all_but_their_pool(started: Started) -> None:
    assert main(["--prometheus_port=39090"]) == 0
    base, serving, watching = started.runs[0]
    assert [[each.name for each in stage] for stage in (base, serving, watching)] == [
        ["redis"],
        ["predictor 1", "predictor 2"],
        ["prometheus", "dashboard"],
    ]
    assert [each.needed for each in (*base, *serving, *watching)] == [True] * 3 + [False] * 2
    for each in serving:
        assert "--parameters=run/parameters.yaml" in each.command
        assert f"--redis_url={base[0].ready_url}" in each.command
    (scraped,) = yaml.safe_load(Path("run/prometheus/prometheus.yml").read_text())["scrape_configs"]
    first, second = scraped["static_configs"]
    assert first["labels"]["capacity_type"] == "on-demand"
    assert second["labels"]["capacity_type"] == "spot"
    assert first["labels"]["node"] != second["labels"]["node"]
    for target, each in zip((first, second), serving, strict=True):
        assert each.ready_url.startswith(f"http://{target['targets'][0]}/")


def test_the_dashboard_is_pointed_at_the_rest_and_may_edit(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWAY_PROMETHEUS", "http://elsewhere:9090")
    assert main(["--prometheus_port=39090"]) == 0
    environment = started.last["dashboard"].environment
    assert environment is not None
    settings = read_settings(environment)
    assert settings.prometheus_url == "http://127.0.0.1:39090"
    assert settings.parameters == Path("run/parameters.yaml")
    assert settings.may_edit
    assert {price.pool.value for price in settings.prices} == {"spot", "on-demand"}
    assert all("example" in price.source for price in settings.prices)
    assert "dashboard   http://127.0.0.1:" in started.welcome


def test_who_starts_it_may_keep_the_dashboard_from_editing(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWAY_EDIT", "no")
    assert main([]) == 0
    environment = started.last["dashboard"].environment
    assert environment is not None
    assert not read_settings(environment).may_edit
    assert "HEADWAY_EDIT" in os.environ


def test_the_light_form_is_one_replica_alone(started: Started) -> None:
    assert main(["--replicas=1", "--prometheus_port=0", "--dashboard_port=0"]) == 0
    assert list(started.last) == ["redis", "predictor 1"]
    assert "dashboard" not in started.welcome.splitlines()[1]


def test_parameters_of_the_last_run_are_kept_and_it_says_so(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 0
    assert "last run" not in capsys.readouterr().out
    path = Path("run/parameters.yaml")
    path.write_text(path.read_text().replace("generation: 1", "generation: 7"))
    assert main([]) == 0
    assert f"the parameters of the last run are kept ({path}, generation 7)" in (
        said := capsys.readouterr().out
    )
    assert "remove that file" in said
    path.write_text("generation: many")
    assert main([]) == 0
    assert f"({path}, which is wrong: generation" in capsys.readouterr().out


def test_the_line_to_try_fits_the_task(started: Started) -> None:
    assert main(["--task=simulated"]) == 0
    assert started.welcome.splitlines()[-1].endswith(
        curl(ModelSettings(name="topics", task=Task.SIMULATED), "http://127.0.0.1:8080")
    )
    assert main(["--task=text-generation", "--model_dir=mine", "--host=0.0.0.0"]) == 0
    assert "  curl -s http://127.0.0.1:8080/v2/models/chat/generate " in started.welcome
    assert main(["--task=topik"]) == 0  # the predictor refuses it
    assert "curl" not in started.welcome


GENERATES = ("--task=text-generation",), ("--task=simulated", "--simulated_output_tokens=40")


@pytest.mark.parametrize("flags", GENERATES)
def test_a_model_that_generates_is_one_replica_with_limits_of_its_own(
    started: Started, flags: Sequence[str]
) -> None:
    assert main([]) == 0  # leaves the document of topics
    assert main(list(flags)) == 0
    assert [name for name in started.last if name.startswith("predictor")] == ["predictor 1"]
    served = started.last["predictor 1"]
    assert {"--model_name=chat", *flags} <= set(served.command)
    assert served.ready_url.endswith("/v2/models/chat/ready")
    path = Path("run/parameters-chat.yaml")
    assert f"--parameters={path}" in served.command
    parameters = parse_document(path.read_bytes())
    assert parameters.tiers == GENERATING_PARAMETERS.tiers
    assert set(parameters.models) == {"chat"}
    environment = started.last["dashboard"].environment
    assert environment is not None
    assert read_settings(environment).parameters == path
    (curl,) = [line for line in started.welcome.splitlines() if line.startswith("  curl")]
    words = shlex.split(curl)
    assert "/openai/v1/chat/completions" in words[2]
    assert json.loads(words[-1])["model"] == "chat"


def test_what_is_said_goes_before_what_the_task_suggests(started: Started) -> None:
    flags = ["--replicas=2", "--model_name=mine", "--parameters=mine.yaml"]
    assert main(["--task=text-generation", *flags]) == 0
    served = started.last["predictor 2"]
    assert "--model_name=mine" in served.command
    assert served.ready_url.endswith("/v2/models/mine/ready")
    assert set(parse_document(Path("mine.yaml").read_bytes()).models) == {"mine"}


@pytest.mark.parametrize(
    "flags", [["--task=topik"], ["--task=simulated", "--simulated_output_tokens=many"]]
)
def test_a_wrong_flag_is_left_to_the_predictor_to_refuse(
    started: Started, flags: Sequence[str]
) -> None:
    assert main(list(flags)) == 0
    assert set(flags) <= set(started.last["predictor 1"].command)


def test_a_price_table_of_ones_own_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    create_price_table(path)
    assert yaml.safe_load(path.read_text())["usd_per_hour"]["spot"] > 0
    path.write_text("mine")
    create_price_table(path)
    assert path.read_text() == "mine"


def test_another_redis_may_be_named(started: Started) -> None:
    assert main(["--redis_url=redis://elsewhere"]) == 0
    assert "redis" not in started.last
    assert "--redis_url=redis://elsewhere" in started.last["predictor 2"].command


def test_a_taken_port_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with taken_port() as port:
        assert main([f"--http_port={port}"]) == 2
    assert f"127.0.0.1:{port}" in (said := capsys.readouterr().out)
    assert "make up HTTP_PORT=" in said
    assert not port_problem("127.0.0.1", port)
    assert port_problem("127.0.0.1", 70_000)


def test_the_port_of_redis_counts_where_one_is_started() -> None:
    with taken_port() as port:
        flags = parse(
            ["--replicas=1", f"--redis_port={port}", "--prometheus_port=0", "--dashboard_port=0"]
            + [f"--{kind}_port={free_port()}" for kind in ("http", "grpc")]
        )
        assert "make up REDIS_PORT=" in ports_problem(flags.ports(redis=True))
        assert not ports_problem(flags.ports(redis=False))


def test_a_port_wanted_twice_is_told_before_anything_starts() -> None:
    port = free_port()
    flags = parse([f"--http_port={port}", f"--grpc_port={port}"])
    assert ports_problem(flags.ports(redis=True)) == (
        f"port {port} is wanted by predictor 1 (HTTP) and by predictor 1 (gRPC);"
        " choose another: make up GRPC_PORT=<port>"
    )


def test_the_parameter_file_is_explained_valid_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run" / "parameters.yaml"
    create_parameters_file(path)
    parameters = parse_document(path.read_bytes())
    assert parameters.tiers == DEFAULT_PARAMETERS.tiers
    assert parameters.models == {"topics": DEFAULT_PARAMETERS.for_model("topics")}
    assert "# Most rows in a batch." in path.read_text()
    path.write_text("mine")
    create_parameters_file(path)
    assert path.read_text() == "mine"

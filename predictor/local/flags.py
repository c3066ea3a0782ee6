"""What `make up` may be told."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from predictor.core.model import ModelSettings, Task
from predictor.local.ports import Port, add_arguments, default_replicas, ports
from predictor.local.replicas import GENERATING_MODEL, MODEL, TASK, Replica, replicas

RUN = Path("run")  # what is kept between two starts


@dataclass(frozen=True)
class Flags:
    listening: argparse.Namespace  # as ports.add_arguments has it
    replicas: int
    parameters: Path
    model: str  # that is served
    task: str
    settings: ModelSettings | None  # of that model; None where a flag is the predictor's to refuse
    predictor: tuple[str, ...]  # more flags of every replica

    @property
    def generates(self) -> bool:
        """It answers token by token."""
        return self.settings is not None and self.settings.generates

    @property
    def names_redis(self) -> bool:
        return any(flag.split("=")[0] == "--redis_url" for flag in self.predictor)

    @property
    def fleet(self) -> Sequence[Replica]:
        at = self.listening
        return replicas(self.replicas, self.model, self.task, at.host, at.http_port, at.grpc_port)

    def ports(self, *, redis: bool) -> Iterator[Port]:
        """All that are wanted. `redis`: one is started here."""
        return ports(self.listening, self.replicas, redis=redis)


def parse(arguments: Sequence[str]) -> Flags:
    parser = argparse.ArgumentParser(
        prog="python -m predictor.local",
        description="Serve the default model of a task here. Other flags go to the predictor.",
        allow_abbrev=False,
    )
    add_arguments(parser)
    parser.add_argument("--task", default=TASK, help="the predictor's; default: topic")
    parser.add_argument("--model_name", help="default: topics; chat where the model generates")
    parser.add_argument(
        "--parameters",
        type=Path,
        help="default: run/parameters.yaml; run/parameters-chat.yaml where the model generates",
    )
    known, others = parser.parse_known_args(arguments)
    settings = _settings(known.task, others)
    generates = settings is not None and settings.generates
    model = known.model_name or (GENERATING_MODEL if generates else MODEL)
    return Flags(
        listening=known,
        replicas=known.replicas or default_replicas(generates=generates),
        # A document of its own: one that names the other's model would be refused.
        parameters=known.parameters
        or RUN / ("parameters-chat.yaml" if generates else "parameters.yaml"),
        model=model,
        task=known.task,
        settings=None if settings is None else msgspec.structs.replace(settings, name=model),
        predictor=tuple(others),
    )


def _settings(task: str, others: Sequence[str]) -> ModelSettings | None:
    """What of the predictor's own flags tells how its model answers."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--simulated_output_tokens", type=float, default=0.0)
    parser.add_argument("--model_dir", default="")
    parser.add_argument("--model_id", default="")
    try:
        known, _ = parser.parse_known_args(others)
        return ModelSettings(name=MODEL, task=Task(task), **vars(known))
    except (ValueError, argparse.ArgumentError):
        return None

"""Flags and the models file -> frozen `Settings`. The SDK's own flags keep their meaning.

The SDK reads its flags about logging and docs itself, from the same command line.
"""

import argparse
import contextlib
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import yaml

from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings, Task
from predictor.devices import nvml_uuids, visible_devices

MAX_MODELS_FILE_BYTES = 1 << 20
MAX_MODELS = 64

# Smallest and largest value of each number that a flag sets.
LIMITS: Mapping[str, tuple[float, float]] = {
    "http_port": (1, 65_535),
    "grpc_port": (1, 65_535),
    "workers": (1, 64),
    "engines": (1, 64),
    "max_threads": (1, 1024),
    "max_asyncio_workers": (1, 1024),
    "timeout_keep_alive": (1, 86_400),
    "grpc_max_send_message_length": (1024, 1 << 30),
    "max_body_bytes": (1024, 1 << 30),
    "max_rows": (1, 65_536),
    "grace_s": (0, 3600),
    "batch_timeout_s": (1, 86_400),
    "profile_batches": (1, 10_000),
    "job_keep_s": (1, 30 * 86_400),
    "job_lease_s": (1, 3600),
}

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How this process serves. What can be turned while serving is in core.parameters."""

    models: tuple[ModelSettings, ...]
    parameters_file: str = ""  # empty: the default parameters, fixed
    host: str = "0.0.0.0"
    http_port: int = 8080
    grpc_port: int = 8081
    enable_grpc: bool = True
    workers: int = 1  # edge processes
    engines: int = 1  # one per device
    max_threads: int = 4
    max_asyncio_workers: int | None = None
    timeout_keep_alive: int = 65  # s
    grpc_max_send_message_length: int = 64 << 20  # bytes
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    max_body_bytes: int = 16 << 20
    max_rows: int = 1024  # in one request
    grace_s: float = 30.0  # for requests in flight after SIGTERM
    batch_timeout_s: float = 120.0  # a batch that takes longer means that the device hangs
    profile_batches: int = 0  # trace that many of each model's first batches in traffic
    profile_dir: str = "."
    redis_url: str = ""  # where jobs are kept; empty: none are
    job_keep_s: float = 86_400.0  # results, after the job's end
    job_lease_s: float = 30.0  # a replica that was not heard of for so long loses its lines

    @property
    def in_one_process(self) -> bool:
        """One edge and one engine need no supervisor between them."""
        return self.workers == 1 and self.engines == 1


def parse_settings(arguments: Sequence[str]) -> Settings:
    """Settings from command-line arguments (without the program's name).

    Raises:
        StartupError: one line that names the flag or field, and the fix.
    """
    # What was not given stays None here, also where the SDK has a default that is not ours.
    untouched = argparse.Namespace(model_name=None, grpc_max_send_message_length=None)
    flags = build_parser().parse_args(arguments, untouched)
    given = {name: value for name, value in vars(flags).items() if value is not None}
    _check(given)
    kept = {name: given[name] for name in Settings.__struct_fields__ if name in given}
    return Settings(models=_models(given), **kept)


def _check(given: Mapping[str, Any]) -> None:
    for name, (least, most) in LIMITS.items():
        if name in given and not least <= given[name] <= most:
            flag = "--timeout-keep-alive" if name == "timeout_keep_alive" else f"--{name}"
            raise StartupError(f"{flag} is {given[name]}; it must be from {least:g} to {most:.12g}")
    if given["enable_grpc"] and given["http_port"] == given["grpc_port"]:
        raise StartupError(
            f"--grpc_port is {given['grpc_port']}, as is --http_port; give each its own"
        )
    if ("ssl_certfile" in given) != ("ssl_keyfile" in given):
        raise StartupError("--ssl_certfile and --ssl_keyfile belong together; give both or none")
    for name in ("ssl_certfile", "ssl_keyfile"):
        if name in given and not Path(given[name]).is_file():
            raise StartupError(f"--{name} {given[name]!r} is not a file; give the path of one")


def build_parser() -> argparse.ArgumentParser:
    """The SDK's flags and ours. Defaults of ours are those of `Settings` and `ModelSettings`."""
    parser = _Parser(
        prog="python -m predictor",
        description="Serve models over the v2 protocol, batched adaptively.",
        parents=[_sdk_parser()],
        allow_abbrev=False,
    )
    model = parser.add_argument_group("the model")
    model.add_argument("--task", choices=[task.value for task in Task], help="default: topic")
    model.add_argument("--model_dir", help="a folder with a Hugging Face checkpoint")
    model.add_argument("--model_id", help="a hub name, used where --model_dir is not given")
    model.add_argument(
        "--labels", type=_labels, help="topic only: the labels to choose from, as a,b,c"
    )
    model.add_argument("--device", help="auto (default), cpu, cuda or cuda:N")
    model.add_argument("--dtype", help="auto (default), float32, bfloat16 or float16")
    model.add_argument(
        "--capture_graphs",
        type=_boolean,
        help="false: never capture CUDA graphs; default true",
    )
    model.add_argument(
        "--simulated_fixed_ms", type=float, help="simulated only: time of any batch; default 5"
    )
    model.add_argument(
        "--simulated_token_us", type=float, help="simulated only: time of a token; default 10"
    )
    model.add_argument(
        "--simulated_packed",
        type=_boolean,
        help="simulated only: true if padding takes no time; default false",
    )
    model.add_argument(
        "--models",
        dest="models_file",
        metavar="FILE",
        help=f"YAML list of up to {MAX_MODELS} models, instead of the flags for one",
    )
    serving = parser.add_argument_group("serving")
    serving.add_argument(
        "--parameters",
        dest="parameters_file",
        metavar="FILE",
        help="the parameter document, followed while serving; without it the defaults hold",
    )
    serving.add_argument(
        "--engines",
        type=_engines,
        help="engine processes, each with a device of its own; auto: one per device; default 1",
    )
    serving.add_argument("--host", type=_host, help="address to listen on; default: all")
    serving.add_argument("--max_body_bytes", type=int, help="largest request; default 16 MiB")
    serving.add_argument("--max_rows", type=int, help="most rows in one request; default 1024")
    serving.add_argument(
        "--grace_s", type=float, help="time to finish requests after SIGTERM; default 30"
    )
    serving.add_argument(
        "--batch_timeout_s",
        type=float,
        help="a batch that takes longer means that the device hangs: exit; default 120",
    )
    serving.add_argument(
        "--profile_batches",
        type=int,
        metavar="N",
        help="write a torch profiler trace of each model's first N batches in traffic",
    )
    serving.add_argument("--profile_dir", help="folder for the traces; default: this one")
    jobs = parser.add_argument_group("jobs")
    jobs.add_argument(
        "--redis_url",
        type=_redis_url,
        help="the Redis that keeps jobs, redis://, rediss:// or unix://; without it there are none",
    )
    jobs.add_argument(
        "--job_keep_s", type=float, help="results are kept so long after the job's end; default 1 d"
    )
    jobs.add_argument(
        "--job_lease_s",
        type=float,
        help="a replica not heard of for so long loses the lines it runs to others; default 30",
    )
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # The SDK's booleans are lambdas, which argparse would name so.
        message = message.replace("invalid <lambda> value:", "must be true or false, not")
        raise StartupError(f"{message}; --help lists the flags")


def _sdk_parser() -> argparse.ArgumentParser:
    """The SDK's parser. Importing it makes the SDK parse this process's own command line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            from kserve.model_server import parser
    except SystemExit:
        message = complaint.getvalue().rpartition(": error: ")[2].strip()
        _Parser().error(message)
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def _models(given: Mapping[str, object]) -> tuple[ModelSettings, ...]:
    of_one = {
        field: given[flag]
        for field in ModelSettings.__struct_fields__
        if (flag := _flag_of(field)) in given
    }
    models_file = given.get("models_file")
    if models_file is None:
        return (_model({"name": "model", **of_one}, "--"),)
    if of_one:
        raise StartupError(
            f"--{_flag_of(next(iter(of_one)))} cannot be given with --models; put it in the file"
        )
    return _read_models(Path(str(models_file)))


def _read_models(path: Path) -> tuple[ModelSettings, ...]:
    entries = _read_yaml(path)
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_MODELS:
        raise StartupError(f"--models {path}: must be a list of 1 to {MAX_MODELS} models")
    models = tuple(
        _model(entry, f"--models {path}: [{number}].") for number, entry in enumerate(entries)
    )
    seen: set[str] = set()
    for number, model in enumerate(models):
        if model.name in seen:
            raise StartupError(
                f"--models {path}: [{number}].name is {model.name!r}, which an entry before has;"
                " give each model its own"
            )
        seen.add(model.name)
    return models


def _read_yaml(path: Path) -> object:
    try:
        with path.open("rb") as file:
            document = file.read(MAX_MODELS_FILE_BYTES + 1)
        if len(document) > MAX_MODELS_FILE_BYTES:
            raise StartupError(
                f"--models {path}: is over {MAX_MODELS_FILE_BYTES} bytes; shorten it"
            )
        return yaml.safe_load(document)
    except OSError as error:
        raise StartupError(f"--models {path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise StartupError(f"--models {path}: not YAML: {' '.join(str(error).split())}") from None


def _model(given: object, prefix: str) -> ModelSettings:
    """One model from flags (prefix `--`) or from an entry of the models file."""
    try:
        model = msgspec.convert(given, ModelSettings)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        field = path.strip("`.")
        raise StartupError(
            f"{prefix}{field}: {problem}" if field else f"{prefix[:-1]}: {problem}"
        ) from None
    if not _MODEL_NAME.fullmatch(model.name):
        raise StartupError(
            f"{prefix}{_flag_of('name') if prefix == '--' else 'name'} is {model.name[:40]!r}; use"
            " up to 128 letters, digits, dots, dashes and underscores, a letter or digit first"
        )
    assert isinstance(given, dict)
    for field in given:
        if field.startswith("simulated_") and model.task is not Task.SIMULATED:
            raise StartupError(
                f"{prefix}{field} is for the task simulated, not {model.task}; leave it out"
            )
    return model


def _flag_of(field: str) -> str:
    return "model_name" if field == "name" else field


def _labels(text: str) -> tuple[str, ...]:
    labels = tuple(label.strip() for label in text.split(","))
    if not all(labels):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty label; write a,b,c")
    return labels


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false, not {text!r}")
    return text.lower() == "true"


def _engines(text: str) -> int:
    if text == "auto":
        return max(len(visible_devices(os.environ, nvml_uuids())), 1)
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number or auto, not {text[:32]!r}") from None


def _redis_url(text: str) -> str:
    if not re.match(r"(rediss?|unix)://.", text):
        raise argparse.ArgumentTypeError(
            "must begin with redis://, rediss:// or unix://, as redis://127.0.0.1:6379/0"
        )
    return text


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:_-]{1,253}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no address; use 127.0.0.1 or 0.0.0.0")
    return text

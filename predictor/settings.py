"""Flags -> frozen `Settings`. The SDK's own flags keep their meaning.

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

from predictor.config_maps import config_map_name
from predictor.connection_flags import (
    CONNECTION_LIMITS,
    GrpcKeepalive,
    add_connection_flags,
    grpc_keepalive,
)
from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings, Task
from predictor.devices import nvml_uuids, visible_devices
from predictor.models_file import MAX_MODELS, models_of
from predictor.redis_password import PASSWORD_VARIABLE

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
    "body_idle_s": (0.1, 3600),
    "max_rows": (1, 65_536),
    "max_decoded_bytes": (1 << 20, 1 << 40),
    "grace_s": (0, 3600),
    "batch_timeout_s": (1, 86_400),
    "profile_batches": (1, 10_000),
    "job_keep_s": (1, 30 * 86_400),
    "job_lease_s": (1, 3600),
    **CONNECTION_LIMITS,
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How this process serves. What can be turned while serving is in core.parameters."""

    models: tuple[ModelSettings, ...]
    parameters: str = ""  # a file, or configmap:NAME; empty: the default parameters, fixed
    parameters_fallback: str = ""  # a file, for a start without the API server
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
    body_idle_s: float = 60.0  # a body of which nothing came for so long is given up
    header_timeout_s: float = 10.0
    max_connections: int | None = None  # of HTTP to one edge
    max_connections_per_client: int | None = None
    grpc_keepalive: GrpcKeepalive = GrpcKeepalive()
    max_rows: int = 1024  # in one request
    max_decoded_bytes: int = 1 << 30  # of all requests that a process holds
    grace_s: float = 30.0  # for requests in flight after SIGTERM
    batch_timeout_s: float = 120.0  # a batch that takes longer means that the device hangs
    profile_batches: int = 0  # trace that many of each model's first batches in traffic
    profile_dir: str = "."
    redis_url: str = ""  # where jobs are kept, without a password; empty: none are
    job_keep_s: float = 86_400.0  # results, after the job's end
    job_owner_header: str = ""  # names a job's owner; empty: who knows its id may ask for it
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
    return Settings(models=models_of(given), grpc_keepalive=grpc_keepalive(given), **kept)


def _check(given: Mapping[str, Any]) -> None:
    for name, (least, most) in LIMITS.items():
        if name in given and not least <= given[name] <= most:
            flag = "--timeout-keep-alive" if name == "timeout_keep_alive" else f"--{name}"
            raise StartupError(f"{flag} is {given[name]}; it must be from {least:g} to {most:.12g}")
    if given["enable_grpc"] and given["http_port"] == given["grpc_port"]:
        raise StartupError(
            f"--grpc_port is {given['grpc_port']}, as is --http_port; give each its own"
        )
    if config_map_name(given.get("parameters", "")) is None and "parameters_fallback" in given:
        raise StartupError("--parameters_fallback is for --parameters=configmap:NAME alone")
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
        "--kv_cache_gib",
        type=float,
        help="text-generation only: memory for keys and values; default: a share of what is free",
    )
    model.add_argument(
        "--prefix_cache",
        type=_boolean,
        help="generating only: false: compute equal beginnings of prompts anew; default true",
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
        "--simulated_output_tokens",
        type=float,
        help="simulated only: median of the tokens that a row generates; default 0: none",
    )
    model.add_argument(
        "--simulated_output_sigma",
        type=float,
        help="simulated only: spread of their logarithm; default 0.8",
    )
    model.add_argument(
        "--simulated_row_us",
        type=float,
        help="simulated only: time of a row in a step; default 2",
    )
    model.add_argument(
        "--simulated_context_ns",
        type=float,
        help="simulated only: time of a position that a step looks at; default 10",
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
        metavar="FILE or configmap:NAME",
        help="the parameter document, followed while serving; without it the defaults hold",
    )
    serving.add_argument(
        "--parameters_fallback",
        metavar="FILE",
        help="configmap:NAME only: read at start where the API server gives no parameters",
    )
    serving.add_argument(
        "--engines",
        type=_engines,
        help="engine processes, each with a device of its own; auto: one per device; default 1",
    )
    serving.add_argument("--host", type=_host, help="address to listen on; default: all")
    serving.add_argument("--max_body_bytes", type=int, help="largest request; default 16 MiB")
    serving.add_argument(
        "--body_idle_s",
        type=float,
        help="give up a request of whose body nothing came, or whose stream nobody read, for so"
        " long; default 60",
    )
    serving.add_argument("--max_rows", type=int, help="most rows in one request; default 1024")
    serving.add_argument(
        "--max_decoded_bytes",
        type=int,
        help="most bytes of decoded input that a process holds at a time; default 1 GiB",
    )
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
    add_connection_flags(parser, _boolean)
    jobs = parser.add_argument_group("jobs")
    jobs.add_argument(
        "--redis_url",
        type=_redis_url,
        help="the Redis that keeps jobs, redis://, rediss:// or unix://; without it there are none."
        f" Its password, if any, is {PASSWORD_VARIABLE} of the environment",
    )
    jobs.add_argument(
        "--job_owner_header",
        type=_header,
        help="the header in which a proxy names the caller; a job is then its submitter's alone",
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
    if re.search(r"://.*:.*@|[?&]password=", text, re.IGNORECASE):  # which is not said again
        raise argparse.ArgumentTypeError(
            "must have no password, because every process can read this command line; give it in"
            f" the environment, as {PASSWORD_VARIABLE}"
        )
    if not re.match(r"(rediss?|unix)://.", text):
        raise argparse.ArgumentTypeError(
            "must begin with redis://, rediss:// or unix://, as redis://127.0.0.1:6379/0"
        )
    return text


def _header(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text[:64]!r} is no header; use e.g. x-forwarded-user")
    return text.lower()


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:_-]{1,253}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no address; use 127.0.0.1 or 0.0.0.0")
    return text

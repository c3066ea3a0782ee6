"""`python -m predictor.local`: start what Headway needs on this machine, and stop all of it."""

import asyncio
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from predictor.core.document import commented_document
from predictor.core.parameters import DEFAULT_DOCUMENT, GENERATING_DOCUMENT, parse_plain
from predictor.local.dashboard import create_price_table, dashboard_is_here, dashboard_service
from predictor.local.flags import LOCALHOST, RUN, Flags, parse, ports_problem
from predictor.local.prometheus import (
    REMOTE_WRITE,
    Target,
    obtain_prometheus,
    prometheus_service,
)
from predictor.local.redis import find_redis_server, redis_service
from predictor.local.replicas import MODEL, Replica, predictor_service
from predictor.local.together import Service, run_together, say
from predictor.redis_password import PASSWORD_VARIABLE

TEXTS = (
    '{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data":'
    ' ["The striker scored twice in the final", "Shares fell as the bank raised rates"]}]}'
)
CHAT = '{"model": "%s", "messages": [{"role": "user", "content": "Tell me a joke."}]}'


def main(arguments: Sequence[str]) -> int:
    """Run until Ctrl-C (0), until a service ends (its exit code), or refuse to start (2)."""
    flags = parse(arguments)
    redis_program = None if flags.names_redis else find_redis_server()
    if problem := ports_problem(flags, redis=redis_program is not None):
        say(problem)
        return 2
    try:
        create_parameters_file(flags.parameters, flags.model, generates=flags.generates)
        stages = _stages(flags, redis_program)
    except OSError as error:
        say(f"{error.filename} cannot be written: {error.strerror}; check the folder's permissions")
        return 2
    except KeyboardInterrupt:
        say("stopping")
        return 0
    return asyncio.run(run_together(stages, _welcome(flags, stages)))


def create_parameters_file(path: Path, model: str = MODEL, *, generates: bool = False) -> None:
    """Write the default parameters, explained, unless there is such a file already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        document = GENERATING_DOCUMENT if generates else DEFAULT_DOCUMENT
        path.write_text(commented_document(parse_plain({**document, "models": {model: {}}})))


def _stages(flags: Flags, redis_program: str | None) -> Sequence[Sequence[Service]]:
    """What needs nothing, what needs that, and what looks at it."""
    RUN.mkdir(exist_ok=True)
    predictor_flags = list(flags.predictor)
    base: list[Service] = []
    environment = dict(os.environ)
    if redis_program is not None:
        environment.pop(PASSWORD_VARIABLE, None)  # of another Redis: our own has none
        base.append(redis_service(redis_program, RUN / "redis", flags.redis_port))
        predictor_flags.append(f"--redis_url={base[0].ready_url}")
    elif not flags.names_redis:
        say("no redis-server here, so no jobs; install Redis, or add FLAGS=--redis_url=redis://…")
    serving = [
        predictor_service(each, flags.parameters, predictor_flags, environment)
        for each in flags.fleet
    ]
    watching = [*_prometheus(flags), *_dashboard(flags)]
    return [base, serving, watching]


def _prometheus(flags: Flags) -> Sequence[Service]:
    """Empty where there is to be none, or none can be had."""
    program = obtain_prometheus(say) if flags.prometheus_port else None
    if program is None:
        return []
    host = LOCALHOST if flags.host == "0.0.0.0" else flags.host
    targets = [Target(f"{host}:{each.http_port}", each.labels) for each in flags.fleet]
    listening = f"{LOCALHOST}:{flags.prometheus_port}"
    service = prometheus_service(program, RUN / "prometheus", listening, targets)
    if REMOTE_WRITE not in service.command:
        say(f"{program} is older than 2.33; it scrapes, but does not take k6's series")
    return [service]


def _dashboard(flags: Flags) -> Sequence[Service]:
    if not flags.dashboard_port:
        return []
    if not dashboard_is_here():
        say("streamlit is missing, so no dashboard; make env installs it")
        return []
    prices = RUN / "prices.yaml"
    create_price_table(prices)
    url = f"http://{LOCALHOST}:{flags.prometheus_port}" if flags.prometheus_port else None
    return [
        dashboard_service(
            flags.dashboard_port, parameters=flags.parameters, prices=prices, prometheus_url=url
        )
    ]


def _welcome(flags: Flags, stages: Sequence[Sequence[Service]]) -> str:
    started = {service.name for stage in stages for service in stage}
    url = flags.fleet[0].url
    models = "".join(
        f"  model       {each.url}/v2/models/{each.model}"
        f"  (gRPC {each.host}:{each.grpc_port}), labelled {each.pool}\n"
        for each in flags.fleet
    )
    dashboard = f"  dashboard   http://{LOCALHOST}:{flags.dashboard_port}\n"
    prometheus = f"  Prometheus  http://{LOCALHOST}:{flags.prometheus_port}\n"
    return (
        "ready. Ctrl-C stops it.\n"
        + (dashboard if "dashboard" in started else "")
        + models
        + f"  metrics     {url}/metrics\n"
        f"  parameters  {flags.parameters} (edit and save)\n"
        + (prometheus if "prometheus" in started else "")
        + "Try it:\n"
        f"  {_example(flags.fleet[0], generates=flags.generates)}\n"
    )


def _example(replica: Replica, *, generates: bool) -> str:
    path = "openai/v1/chat/completions" if generates else f"v2/models/{replica.model}/infer"
    body = CHAT % replica.model if generates else TEXTS
    return (
        f"curl -s {replica.url}/{path} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

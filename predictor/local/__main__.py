"""`python -m predictor.local`: start what Headway needs on this machine, and stop all of it."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from predictor.core.document import commented_document
from predictor.core.errors import ParametersRefused
from predictor.core.parameters import (
    DEFAULT_DOCUMENT,
    GENERATING_DOCUMENT,
    parse_document,
    parse_plain,
)
from predictor.first_steps import curl
from predictor.local.dashboard import create_price_table, dashboard_is_here, dashboard_service
from predictor.local.flags import RUN, Flags, parse
from predictor.local.ports import LOCALHOST, ports_problem
from predictor.local.prometheus import (
    REMOTE_WRITE,
    Target,
    obtain_prometheus,
    prometheus_service,
)
from predictor.local.redis import find_redis_server, redis_service
from predictor.local.replicas import MODEL, predictor_service
from predictor.local.together import Service, run_together, say
from predictor.redis_password import PASSWORD_VARIABLE


def main(arguments: Sequence[str]) -> int:
    """Run until Ctrl-C (0), until a service ends (its exit code), or refuse to start (2)."""
    flags = parse(arguments)
    redis_program = None if flags.names_redis else find_redis_server()
    if problem := ports_problem(flags.ports(redis=redis_program is not None)):
        say(problem)
        return 2
    try:
        if not create_parameters_file(flags.parameters, flags.model, generates=flags.generates):
            say(_kept(flags.parameters))
        stages = _stages(flags, redis_program)
    except OSError as error:
        say(f"{error.filename} cannot be written: {error.strerror}; check the folder's permissions")
        return 2
    except KeyboardInterrupt:
        say("stopping")
        return 0
    return asyncio.run(run_together(stages, _welcome(flags, stages)))


def create_parameters_file(path: Path, model: str = MODEL, *, generates: bool = False) -> bool:
    """Write the default parameters, explained. False: there is such a file already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return False
    document = GENERATING_DOCUMENT if generates else DEFAULT_DOCUMENT
    path.write_text(commented_document(parse_plain({**document, "models": {model: {}}})))
    return True


def _kept(path: Path) -> str:
    try:
        generation = f"generation {parse_document(path.read_bytes()).generation}"
    except ParametersRefused as refusal:
        generation = f"which is wrong: {refusal.message}"
    return (
        f"the parameters of the last run are kept ({path}, {generation});"
        " remove that file to begin with the defaults"
    )


def _stages(flags: Flags, redis_program: str | None) -> Sequence[Sequence[Service]]:
    """What needs nothing, what needs that, and what looks at it."""
    RUN.mkdir(exist_ok=True)
    predictor_flags = list(flags.predictor)
    base: list[Service] = []
    environment = dict(os.environ)
    if redis_program is not None:
        environment.pop(PASSWORD_VARIABLE, None)  # of another Redis: our own has none
        base.append(redis_service(redis_program, RUN / "redis", flags.listening.redis_port))
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
    program = obtain_prometheus(say) if flags.listening.prometheus_port else None
    if program is None:
        return []
    host = LOCALHOST if flags.listening.host == "0.0.0.0" else flags.listening.host
    targets = [Target(f"{host}:{each.http_port}", each.labels) for each in flags.fleet]
    listening = f"{LOCALHOST}:{flags.listening.prometheus_port}"
    service = prometheus_service(program, RUN / "prometheus", listening, targets)
    if REMOTE_WRITE not in service.command:
        say(f"{program} is older than 2.33; it scrapes, but does not take k6's series")
    return [service]


def _dashboard(flags: Flags) -> Sequence[Service]:
    at = flags.listening
    if not at.dashboard_port:
        return []
    if not dashboard_is_here():
        say("streamlit is missing, so no dashboard; make env installs it")
        return []
    prices = RUN / "prices.yaml"
    create_price_table(prices)
    url = f"http://{LOCALHOST}:{at.prometheus_port}" if at.prometheus_port else None
    return [
        dashboard_service(
            at.dashboard_port, parameters=flags.parameters, prices=prices, prometheus_url=url
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
    dashboard = f"  dashboard   http://{LOCALHOST}:{flags.listening.dashboard_port}\n"
    prometheus = f"  Prometheus  http://{LOCALHOST}:{flags.listening.prometheus_port}\n"
    return (
        "ready. Ctrl-C stops it.\n"
        + (dashboard if "dashboard" in started else "")
        + models
        + f"  metrics     {url}/metrics\n"
        f"  parameters  {flags.parameters} (edit and save)\n"
        + (prometheus if "prometheus" in started else "")
        + ("" if flags.settings is None else f"Try it:\n  {curl(flags.settings, url)}\n")
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

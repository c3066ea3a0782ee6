"""Settings of the dashboard, from environment variables: what a container and a shell both have."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import Annotated

import msgspec
from msgspec import Meta

from dashboard.hosts import Host, parse_host
from dashboard.ports import Pool, Price, Refused
from predictor.config_maps import (
    NAMESPACE_VARIABLE,
    ConfigMapPlace,
    config_map_name,
    config_map_place,
)
from predictor.core.errors import StartupError
from predictor.core.yaml_documents import YamlRefusedError, load_yaml

MAX_PRICES_BYTES = 1 << 16
_YES, _NO = ("yes", "true", "1"), ("no", "false", "0", "")


@dataclass(frozen=True, slots=True)
class Variable:
    name: str
    default: str
    help: str


PROMETHEUS = Variable("HEADWAY_PROMETHEUS", "http://127.0.0.1:9090", "Prometheus to read.")
PARAMETERS = Variable(
    "HEADWAY_PARAMETERS", "run/parameters.yaml", "The parameter file, or configmap:NAME."
)
NAMESPACE = Variable(NAMESPACE_VARIABLE, "", "The ConfigMap's namespace; default: the pod's own.")
RESULTS = Variable("HEADWAY_RESULTS", "results", "The folder of load test results.")
EDIT = Variable("HEADWAY_EDIT", "no", "`yes` allows edits on the Tuning page.")
PRICES = Variable("HEADWAY_PRICES", "", "A price table, for pools that Prometheus has no price of.")
USER_HEADER = Variable(
    "HEADWAY_USER_HEADER",
    "",
    "The header in which a proxy tells who the reader is. Only where every request passes it.",
)
HOSTS = Variable(
    "HEADWAY_HOSTS",
    "",
    "Names by which a proxy or Ingress serves the dashboard: host or host:port, with commas.",
)
NAME = Variable(
    "HEADWAY_NAME", "", "What the title calls it; default: the ConfigMap, else this machine."
)
VARIABLES = (PROMETHEUS, PARAMETERS, NAMESPACE, RESULTS, EDIT, PRICES, USER_HEADER, HOSTS, NAME)
MOST_NAME_CHARS = 60

_UsdPerHour = Annotated[float, Meta(ge=0, le=100_000)]


class PriceTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """USD an hour for each replica of a pool, and where that is from."""

    source: Annotated[str, Meta(min_length=1, max_length=200)]
    usd_per_hour: dict[Pool, _UsdPerHour]

    @property
    def prices(self) -> tuple[Price, ...]:
        return tuple(Price(pool, usd, self.source) for pool, usd in self.usd_per_hour.items())


@dataclass(frozen=True, slots=True)
class Settings:
    prometheus_url: str
    parameters: Path | ConfigMapPlace
    results: Path
    may_edit: bool
    prices: tuple[Price, ...]
    user_header: str | None
    hosts: frozenset[Host]
    name: str


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Raises Refused, naming the variable."""

    def value(variable: Variable) -> str:
        return _value(environment, variable)

    url = value(PROMETHEUS)
    if not url.startswith(("http://", "https://")):
        raise Refused(f"{PROMETHEUS.name} must be an http:// or https:// URL.", PROMETHEUS.name)
    table = value(PRICES)
    parameters = _parameters(value(PARAMETERS), environment)
    place = gethostname() if isinstance(parameters, Path) else str(parameters)
    return Settings(
        prometheus_url=url,
        parameters=parameters,
        results=Path(value(RESULTS)),
        may_edit=_flag(EDIT, value(EDIT)),
        prices=_read_prices(Path(table)) if table else (),
        user_header=value(USER_HEADER) or None,
        hosts=read_hosts(environment),
        name=(value(NAME) or place)[:MOST_NAME_CHARS],
    )


def read_hosts(environment: Mapping[str, str]) -> frozenset[Host]:
    """The names that the operator gave. Raises Refused."""
    hosts = set()
    for text in filter(None, map(str.strip, _value(environment, HOSTS).split(","))):
        host = parse_host(text)
        if host is None:
            raise Refused(
                f"{HOSTS.name}: {text[:100]!r} is no host; write headway.example.org, or with its"
                " port headway.example.org:8443, without https:// and without a path.",
                HOSTS.name,
            )
        hosts.add(host)
    return frozenset(hosts)


def _value(environment: Mapping[str, str], variable: Variable) -> str:
    return environment.get(variable.name, variable.default).strip()


def _parameters(text: str, environment: Mapping[str, str]) -> Path | ConfigMapPlace:
    try:
        name = config_map_name(text)
        return Path(text) if name is None else config_map_place(name, environment)
    except StartupError as error:
        raise Refused(f"{PARAMETERS.name}: {error.message}.", PARAMETERS.name) from None


def _flag(variable: Variable, text: str) -> bool:
    if text.lower() not in (*_YES, *_NO):
        raise Refused(f"{variable.name} is {text!r}; set it to yes or no.", variable.name)
    return text.lower() in _YES


def _read_prices(path: Path) -> tuple[Price, ...]:
    try:
        with path.open("rb") as file:
            document = file.read(MAX_PRICES_BYTES + 1)
        if len(document) > MAX_PRICES_BYTES:
            raise Refused(
                f"{PRICES.name}: {path} is over {MAX_PRICES_BYTES} bytes; shorten it.", PRICES.name
            )
        return msgspec.convert(load_yaml(document), PriceTable).prices
    except OSError as error:
        raise Refused(
            f"{PRICES.name}: {path} cannot be read: {error.strerror}.", PRICES.name
        ) from None
    except (YamlRefusedError, msgspec.ValidationError) as error:
        text = " ".join(str(error).split())
        raise Refused(f"{PRICES.name}: {path} is no price table: {text}.", PRICES.name) from None

"""What the pages are given: sources behind their ports, and nothing of how they are made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dashboard.ports import Metrics, ParameterStore, Preview, Price, RunResults


@dataclass(frozen=True)
class Reader:
    """Who looks at the page, as the browser's session tells."""

    login: str | None  # the name that an OIDC login vouches for
    headers: Mapping[str, str]
    must_log_in: bool = False  # a login is set up, and nothing else vouches


@dataclass(frozen=True)
class Parts:
    """One for the whole process."""

    metrics: Metrics
    store: ParameterStore
    preview: Preview
    results: RunResults
    price_table: tuple[Price, ...]  # for pools that Prometheus knows no price of
    now: Callable[[], float]  # Unix time
    who: Callable[[Reader], str | None]  # the name that an edit carries; None: not known
    login_problem: Callable[[], str]  # why nobody can log in, in a sentence; empty: all is well
    name: str = ""  # of what is watched: a cluster's, a service's or a machine's

"""The dashboard's composition root: the only module that knows which sources stand behind ports."""

import getpass
import os
import time
from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from dashboard.hosts import is_loopback, is_this_machine
from dashboard.identity import identity
from dashboard.login import Login, read_login
from dashboard.parts import Parts
from dashboard.ports import ParameterStore, Refused
from dashboard.preview import preview
from dashboard.settings import PARAMETERS, Settings, read_settings
from dashboard.sources.prometheus import PrometheusMetrics
from dashboard.sources.results import ResultsFolder
from dashboard.stores.file import FileParameterStore


@st.cache_resource(show_spinner=False)
def parts() -> Parts:
    """Made once for all readers. Raises Refused, naming the setting that is wrong."""
    settings = read_settings(os.environ)
    return Parts(
        metrics=PrometheusMetrics(settings.prometheus_url),
        store=_store(settings),
        preview=preview,
        results=ResultsFolder(settings.results),
        price_table=settings.prices,
        now=time.time,
        who=identity(
            trusted_header=settings.user_header,
            os_user=_os_user(),
            login=login,
            at_this_machine=_at_this_machine,
        ),
        login_problem=lambda: login().problem,
        name=settings.name,
    )


def login() -> Login:
    """Read anew each time: one that breaks meanwhile lets nobody edit."""
    return read_login(st.get_option("secrets.files"))


def _at_this_machine(headers: Mapping[str, str]) -> bool:
    return is_this_machine(headers, st.get_option("server.port"))


def _store(settings: Settings) -> ParameterStore:
    where = settings.parameters
    if isinstance(where, Path):
        return FileParameterStore(where, editable=settings.may_edit)
    try:
        from dashboard.stores.config_map import ConfigMapParameterStore
    except ImportError as error:
        raise Refused(
            f"{where} needs another package ({error}): pip install 'headway[kubernetes]'.",
            PARAMETERS.name,
        ) from None
    return ConfigMapParameterStore(where, editable=settings.may_edit)


def _os_user() -> str | None:
    """Where only this machine can reach the port, its user is the reader."""
    if not is_loopback(st.get_option("server.address") or ""):
        return None
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return None

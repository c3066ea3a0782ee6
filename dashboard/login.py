"""Whether a login by OpenID Connect is set up, as Streamlit's secrets say.

Streamlit takes secrets that it cannot read for none at all. Then nothing would ask for a login,
and where the dashboard listens on 127.0.0.1 anyone there could edit. So they are read here too, and
a login that is not set up whole lets nobody edit.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboard.files import read_whole
from dashboard.ports import SourceDown

SECTION = "auth"
NEEDED = ("redirect_uri", "cookie_secret")
NEEDED_OF_A_PROVIDER = ("client_id", "client_secret", "server_metadata_url")
PROVIDER = "default"  # what `st.login()` without a name uses
MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Login:
    """`problem`: why nobody can log in, and what to do; empty where all is well."""

    is_set_up: bool
    problem: str = ""


def read_login(paths: Sequence[str]) -> Login:
    """What these files say, of which each may be missing; a later one goes before an earlier."""
    secrets: dict[str, Any] = {}
    for path in map(Path, paths):
        try:
            secrets.update(_secrets(path))
        except SourceDown as error:
            return _wrong(str(error))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):  # whose words may be a secret
            return _wrong(f"{path} is no TOML; correct it")
    misspelt = [name for name in secrets if name.strip().lower() == SECTION and name != SECTION]
    if misspelt:
        return _wrong(f"[{misspelt[0]}] must be written [{SECTION}]")
    return _checked(secrets[SECTION]) if SECTION in secrets else Login(is_set_up=False)


def _secrets(path: Path) -> Mapping[str, Any]:
    """Raises SourceDown where it is there and cannot be read."""
    try:
        if not path.is_symlink():  # one that leads nowhere is there, and cannot be read
            path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise SourceDown(f"{path} cannot be read ({error.strerror})") from None
    if path.is_dir() and path.suffix != ".toml":  # a folder for each mounted Secret
        return {each.name: _folder(each) for each in _listed(path)}
    found = tomllib.loads(read_whole(path, MOST_BYTES).decode())
    if not found:
        raise SourceDown(f"{path} is empty; take it away, or write the login into it")
    return found


def _folder(folder: Path) -> Mapping[str, str]:
    return {each.name: read_whole(each, MOST_BYTES).decode().strip() for each in _listed(folder)}


def _listed(folder: Path) -> Sequence[Path]:
    try:
        return [each for each in folder.iterdir() if not each.name.startswith("..")]
    except OSError as error:
        raise SourceDown(f"{folder} cannot be read ({error.strerror})") from None


def _checked(section: object) -> Login:
    if not isinstance(section, Mapping) or not section:
        return _wrong(f"[{SECTION}] is empty")
    provider = section.get(PROVIDER, section)
    if not isinstance(provider, Mapping):
        return _wrong(f"[{SECTION}] {PROVIDER} must be a section [{SECTION}.{PROVIDER}]")
    missing = [name for name in NEEDED if not _is_text(section.get(name))]
    missing += [name for name in NEEDED_OF_A_PROVIDER if not _is_text(provider.get(name))]
    if missing:
        return _wrong(f"[{SECTION}] has no {', '.join(missing)}")
    return Login(is_set_up=True)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _wrong(what: str) -> Login:
    return Login(
        is_set_up=True,
        problem=(
            f"The login of Streamlit's secrets is not set up right: {what.rstrip('.')}. Nobody can"
            " edit until it is corrected and the dashboard is started again."
        ),
    )

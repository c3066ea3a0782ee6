"""A Prometheus of our own on this machine: the system's program, installed if it is missing.

It scrapes the predictors and takes k6's series by remote write. Its data stays in one folder.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from predictor.local.together import Service

PROGRAM = "prometheus"
SCRAPE_EVERY_S = 2
RETENTION = ("--storage.tsdb.retention.time=15d", "--storage.tsdb.retention.size=2GB")
REMOTE_WRITE = "--web.enable-remote-write-receiver"
INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends", PROGRAM)
INSTALL_LIMIT_S = 600
_HELP_LIMIT_S = 30


def find_prometheus() -> str | None:
    """The path of the program; None where there is none."""
    return shutil.which(PROGRAM)


def obtain_prometheus(say: Callable[[str], None]) -> str | None:
    """The path of the program, which root on Debian or Ubuntu gets installed if it is missing.

    Before anything is installed, `say` is told what. None, and the reason said, where there is
    no program and none can be had.
    """
    program = find_prometheus()
    if program is not None:
        return program
    without = "going on without it, PROMETHEUS_PORT=0 says so from the start"
    by_hand = "install it (Debian, Ubuntu: apt-get install prometheus)"
    if os.geteuid() != 0 or shutil.which(INSTALL[0]) is None:
        say(f"prometheus is missing; {by_hand}; {without}")
        return None
    say(
        f"prometheus is missing; installing it: {' '.join(INSTALL)}."
        " Ctrl-C stops this; PROMETHEUS_PORT=0 does without"
    )
    if not _installed():
        say(
            f"prometheus could not be installed; apt-get update may help, else {by_hand}; {without}"
        )
    return find_prometheus()


def _installed() -> bool:
    # The package would start a server of its own, at once and at every boot; only the program
    # is wanted here. Offline, systemd starts nothing.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "SYSTEMD_OFFLINE": "1"}
    try:
        with subprocess.Popen(INSTALL, env=environment) as installing:
            code = _ended(installing)
        if code == 0 and (systemctl := shutil.which("systemctl")):
            subprocess.run(
                [systemctl, "disable", "--quiet", PROGRAM],
                check=False,
                env=environment,
                timeout=_HELP_LIMIT_S,
            )
    except (OSError, subprocess.SubprocessError):
        return False
    return code == 0


def _ended(installing: subprocess.Popen[bytes]) -> int:
    """Its exit code. It is never killed: half a package is worse than a wait."""
    try:
        return installing.wait(INSTALL_LIMIT_S)
    except subprocess.TimeoutExpired:
        installing.terminate()
        return installing.wait()
    except KeyboardInterrupt:  # the terminal told it, too
        installing.wait()
        raise


def takes_remote_write(program: str) -> bool:
    """Whether it is 2.33 or later."""
    try:
        shown = subprocess.run(
            [program, "--help"], capture_output=True, text=True, timeout=_HELP_LIMIT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return REMOTE_WRITE in shown.stdout + shown.stderr


@dataclass(frozen=True)
class Target:
    """A predictor's host:port, and labels that all its series get."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)


def configuration(
    targets: Sequence[Target], *, every_s: int = SCRAPE_EVERY_S, rules: Path | None = None
) -> str:
    """The YAML that scrapes them. `rules`: a rule file."""
    every = f"{every_s}s"
    static = [{"targets": [each.address], "labels": dict(each.labels)} for each in targets]
    plain: dict[str, object] = {
        "global": {"scrape_interval": every, "scrape_timeout": every},
        "scrape_configs": [{"job_name": "headway", "static_configs": static}],
    }
    if rules is not None:
        plain["rule_files"] = [str(rules)]
    return yaml.safe_dump(plain, sort_keys=False)


def prometheus_service(
    program: str, folder: Path, listening: str, targets: Sequence[Target]
) -> Service:
    """A server on `listening` (host:port) that keeps its data in `folder`.

    Writes its configuration there. Raises OSError if that cannot be done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "prometheus.yml"
    file.write_text("# Written by `make up` at each start.\n" + configuration(targets))
    command = [
        *(program, f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"),
        *(f"--web.listen-address={listening}", *RETENTION, "--log.level=error"),
        *([REMOTE_WRITE] if takes_remote_write(program) else []),
    ]
    return Service("prometheus", command, f"http://{listening}/-/ready", needed=False)

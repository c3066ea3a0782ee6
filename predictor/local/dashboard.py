"""The dashboard of `make up`: a Streamlit of its own that may edit, for this machine alone."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from predictor.local.together import Service

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
LISTENING = "127.0.0.1"
PRICES = """\
# What an hour of one replica costs, for the dashboard of `make up`. These prices are made up, so
# that there is something to see: write your own, and start it again.
source: example prices, not yours
usd_per_hour: {on-demand: 2.00, spot: 0.80}
"""


def dashboard_is_here() -> bool:
    return find_spec("streamlit") is not None and APP.is_file()


def create_price_table(path: Path) -> None:
    """Write one to begin with, unless there is such a file already. Raises OSError."""
    if not path.exists():
        path.write_text(PRICES)


def dashboard_service(
    port: int, *, parameters: Path, prices: Path, prometheus_url: str | None
) -> Service:
    """`prometheus_url`: None leaves it to the environment, where another may be named."""
    url = f"http://{LISTENING}:{port}"
    own = {"HEADWAY_PARAMETERS": str(parameters)}
    if prometheus_url is not None:
        own["HEADWAY_PROMETHEUS"] = prometheus_url
    return Service(
        name="dashboard",
        command=(
            *(sys.executable, "-m", "streamlit", "run", str(APP)),
            *(f"--server.address={LISTENING}", f"--server.port={port}"),
            "--logger.hideWelcomeMessage=true",  # the URL is told when all is ready
        ),
        ready_url=f"{url}/_stcore/health",
        environment={"HEADWAY_EDIT": "yes", "HEADWAY_PRICES": str(prices), **os.environ, **own},
        needed=False,
    )

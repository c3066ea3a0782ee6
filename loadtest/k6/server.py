"""What is asked of the server under test before and after a run."""

import re
import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException

from loadtest.bench.errors import BenchError

ANSWERS_WITHIN_S = 5.0
MAX_METRICS_BYTES = 64 << 20
_GENERATION = re.compile(r"^headway_parameters_generation(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


def check_ready(url: str, model: str) -> None:
    """Raises BenchError, in a sentence, unless the model is ready there."""
    ready = f"{url}/v2/models/{model}/ready"
    try:
        with urllib.request.urlopen(ready, timeout=ANSWERS_WITHIN_S):
            return
    except urllib.error.HTTPError as error:
        hint = "set MODEL" if error.code == HTTPStatus.NOT_FOUND else "wait until it is ready"
        raise BenchError(f"{ready} answers {error.code}; {hint}, or set URL") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or reason
        raise BenchError(
            f"{ready} does not answer ({reason}); start the server, or set URL"
        ) from None


def parameter_generation(url: str) -> int | None:
    """The generation of the parameters in force; None where the server does not say."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=ANSWERS_WITHIN_S) as response:
            text = response.read(MAX_METRICS_BYTES).decode(errors="replace")
    except (OSError, HTTPException):
        return None
    found = _GENERATION.search(text)
    return None if found is None else round(float(found.group(1)))

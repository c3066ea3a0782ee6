"""What is asked of the server under test before and after a run."""

import re
import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException

from loadtest.bench.errors import BenchError
from predictor.core.shown import without_secrets

ANSWERS_WITHIN_S = 5.0
MAX_METRICS_BYTES = 64 << 20
_GENERATION = re.compile(r"^headway_parameters_generation(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


def check_ready(url: str, model: str) -> None:
    """Raises BenchError, in a sentence, unless the model is ready there."""
    ready = f"{url}/v2/models/{model}/ready"
    shown = without_secrets(ready)
    try:
        with urllib.request.urlopen(ready, timeout=ANSWERS_WITHIN_S):
            return
    except urllib.error.HTTPError as error:
        hint = "set MODEL" if error.code == HTTPStatus.NOT_FOUND else "wait until it is ready"
        raise BenchError(f"{shown} answers {error.code}; {hint}, or set URL") from None
    except (HTTPException, ValueError) as error:
        # Their text quotes parts of the URL, and what has a password in it is no host to them.
        problem = "is no URL that can be asked" if "@" in url else f"does not answer ({error})"
        raise BenchError(f"{shown} {problem}; start the server, or set URL") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or reason
        raise BenchError(
            f"{shown} does not answer ({reason}); start the server, or set URL"
        ) from None


def parameter_generation(url: str) -> int | None:
    """The generation of the parameters in force; None where the server does not say."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=ANSWERS_WITHIN_S) as response:
            text = response.read(MAX_METRICS_BYTES).decode(errors="replace")
    except (OSError, HTTPException, ValueError):
        return None
    found = _GENERATION.search(text)
    return None if found is None else round(float(found.group(1)))

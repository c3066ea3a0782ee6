"""What to try first on a server that has just started: its address, and a request it answers."""

import shlex
from collections.abc import Sequence

from predictor.core.model import ModelSettings, Task

# A parent that greets for its servers sets this to "no" for them.
GREETING_VARIABLE = "HEADWAY_GREETING"
_TEXTS = (
    '{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data":'
    ' ["The striker scored twice in the final", "Shares fell as the bank raised rates"]}]}'
)
_IDS = (
    '{"inputs": [{"name": "input_ids", "datatype": "INT64", "shape": [1, 5],'
    ' "data": [3, 1, 4, 1, 5]}]}'
)
_TEXT = '{"text_input": "Once upon a time", "parameters": {"max_tokens": 20}}'
_CHAT = '{"model": "%s", "messages": [{"role": "user", "content": "Tell me a joke."}]}'
# Of one second; the shell writes its samples.
_SILENCE = (
    """'{"inputs": [{"name": "audio", "datatype": "FP32", "shape": [1, 16000], "data": ['"""
    """"$(yes 0 | head -n 16000 | paste -sd,)"']}]}'"""
)


def curl(model: ModelSettings, url: str) -> str:
    """A line for a shell that the model at `url` (http://host:port) answers with 200."""
    if model.generates:
        if model.model_dir or model.model_id:  # nobody knows yet whether it has a chat template
            return _curl(f"{url}/v2/models/{model.name}/generate", shlex.quote(_TEXT))
        return _curl(f"{url}/openai/v1/chat/completions", shlex.quote(_CHAT % model.name))
    infer = f"{url}/v2/models/{model.name}/infer"
    if model.task is Task.SPEECH_RECOGNITION:
        return _curl(infer, _SILENCE)
    return _curl(infer, shlex.quote(_IDS if model.task is Task.SIMULATED else _TEXTS))


def _curl(url: str, quoted_body: str) -> str:
    return f"curl -s {url} -H 'Content-Type: application/json' -d {quoted_body}"


def base_url(host: str, port: int, *, tls: bool = False) -> str:
    """As someone on this machine calls a server that listens on `host`."""
    near = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    if ":" in near and not near.startswith("["):
        near = f"[{near}]"
    return f"{'https' if tls else 'http'}://{near}:{port}"


def greeting(models: Sequence[ModelSettings], url: str) -> Sequence[str]:
    """A line for each model, then one to copy."""
    served = [f"{model.name} is served at {url}/v2/models/{model.name}" for model in models]
    return [*served, f"try it: {curl(models[0], url)}"]

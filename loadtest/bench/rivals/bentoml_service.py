"""What `bentoml serve` loads; bentoml_server.py starts it and says how to install."""

import os

import bentoml

from loadtest.bench.rivals.bentoml_server import SETTINGS
from loadtest.bench.rivals.classifier import Classifier

_MODEL_DIR, _DEVICE, _BATCH_SIZE, _WAIT_MS, _WORKERS = os.environ[SETTINGS].split("\n")


@bentoml.service(
    workers=int(_WORKERS),
    traffic={"timeout": 30},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Service:
    def __init__(self) -> None:
        self._classifier = Classifier(_MODEL_DIR, _DEVICE)

    @bentoml.api(  # type: ignore[untyped-decorator]
        route="/predict",
        batchable=True,
        max_batch_size=int(_BATCH_SIZE),
        max_latency_ms=round(float(_WAIT_MS)),
    )
    def predict(self, text: list[str]) -> list[list[float]]:
        return self._classifier(text)

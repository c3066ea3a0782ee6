"""LitServe: pip install litserve

HTTP processes hand requests to workers that hold the model, over ZeroMQ (`fast_queue`, the
quicker of its two queues). Each worker batches what it finds for up to the wait.
"""

from collections.abc import Sequence
from typing import Any

import litserve

from loadtest.bench.rivals.classifier import Classifier
from loadtest.bench.rivals.flags import RivalFlags, rival_flags


class Api(litserve.LitAPI):
    def __init__(self, flags: RivalFlags) -> None:
        super().__init__(max_batch_size=flags.batch_size, batch_timeout=flags.wait_ms / 1e3)
        self._flags = flags

    def setup(self, device: str) -> None:
        self._classifier = Classifier(self._flags.model_dir, self._flags.device)

    def decode_request(self, request: dict[str, Any]) -> str:
        text: str = request["text"][0]
        return text

    def batch(self, inputs: Sequence[str]) -> Sequence[str]:
        return inputs

    def predict(self, texts: Sequence[str]) -> list[list[float]]:
        return self._classifier(texts)

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        return output

    def encode_response(self, output: list[float]) -> list[list[float]]:
        return [output]


def serve(flags: RivalFlags) -> None:
    server = litserve.LitServer(
        Api(flags),
        accelerator="cpu" if flags.device == "cpu" else "cuda",
        devices=1,
        workers_per_device=flags.workers,
        fast_queue=True,
        timeout=30,
    )
    server.run(
        host="127.0.0.1",
        port=flags.port,
        num_api_servers=flags.edges,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )


if __name__ == "__main__":
    serve(rival_flags())

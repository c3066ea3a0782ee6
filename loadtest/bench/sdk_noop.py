"""The rival of the edge benchmark: the KServe SDK's own server around a model that does nothing.

python -m loadtest.bench.sdk_noop --model_name noop --http_port 8080 --grpc_port 8081
"""

import argparse
from typing import Any

from kserve import InferOutput, InferResponse, Model, ModelServer, model_server


class NoOp(Model):
    """Answers `checksum`, the sum of `input_ids`, as the `simulated` task does."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ready = True

    async def predict(
        self,
        payload: Any,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> InferResponse:
        checksum = payload.inputs[0].as_numpy().sum(keepdims=True).reshape(1)
        output = InferOutput("checksum", [1], "INT64")
        output.set_data_from_numpy(checksum, binary_data=False)
        return InferResponse(payload.id or "0", self.name, [output])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser], conflict_handler="resolve")
    parser.add_argument("--model_name", default="noop")
    ModelServer(workers=1).start([NoOp(parser.parse_args().model_name)])

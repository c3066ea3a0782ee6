"""Triton: pip install nvidia-pytriton, which brings the server's binary along

Triton batches texts by its dynamic batcher and hands each batch to one of `workers` threads
here, each with a copy of the model. Its Python stub needs numpy below 2, so give it a virtual
environment, and a shared libpython of the same Python, on LD_LIBRARY_PATH if need be.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from tritonclient.utils import InferenceServerException

from loadtest.bench.rivals.classifier import Classifier
from loadtest.bench.rivals.flags import RivalFlags, rival_flags

LABELS = 8
STARTS = 8  # two instances or more race for a socket as they start, and a lost race fails the model


def _infer(flags: RivalFlags) -> Callable[..., Any]:
    classifier = Classifier(flags.model_dir, flags.device)

    def infer(text: Any) -> dict[str, Any]:
        texts = [str(row[0], "utf-8") for row in text]
        return {"probabilities": np.array(classifier(texts), np.float32)}

    batched: Callable[..., Any] = batch(infer)
    return batched


def serve(flags: RivalFlags) -> None:
    for remaining in reversed(range(STARTS)):
        try:
            _serve(flags)
        except InferenceServerException:
            if not remaining:
                raise
        else:
            return


def _serve(flags: RivalFlags) -> None:
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=flags.port,
        http_thread_count=max(8, flags.edges),
        allow_grpc=False,
        allow_metrics=False,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="bert",
            infer_func=[_infer(flags) for _ in range(flags.workers)],
            inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(LABELS,))],
            config=ModelConfig(
                max_batch_size=flags.batch_size,
                batcher=DynamicBatcher(max_queue_delay_microseconds=round(flags.wait_ms * 1e3)),
            ),
        )
        triton.serve()


if __name__ == "__main__":
    serve(rival_flags())

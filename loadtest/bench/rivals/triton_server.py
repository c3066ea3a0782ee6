"""Triton: pip install nvidia-pytriton, which brings the server's binary along

Triton batches texts by its dynamic batcher and hands each batch to one of `workers` threads
here, each with a copy of the model. Its stub, a process that only passes tensors on, needs numpy
below 2, and a shared libpython of the same minor version as this Python.

Install all in one virtual environment. Or, beside a torch that wants a newer numpy, install
pytriton and what it requires except numpy in a folder of packages, and in its subfolder `stub` an
environment for the stub, of the same minor version, with numpy below 2 and pyzmq:

    pip install --no-deps --target SITE nvidia-pytriton tritonclient ...
    python -m venv SITE/stub && SITE/stub/bin/pip install 'numpy<2' pyzmq

Where this Python has no shared libpython, a whole Python of its own with one will do as SITE/stub.
"""

import os
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytriton
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.server import triton_server
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


def _prepare_children() -> None:
    """Pytriton takes it that it lies in site-packages; it may be in a folder of packages."""
    site = Path(pytriton.__file__).parents[1]
    stub = site / "stub"
    libraries = [
        os.environ.get("LD_LIBRARY_PATH"),
        str(site / "nvidia_pytriton.libs"),
        str(stub / "lib"),
        sysconfig.get_config_var("LIBDIR"),  # of libpython, where this Python has one
    ]
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    if stub.is_dir():
        # The stub takes no heed of PYTHONPATH; its packages are those of the first python3 on PATH.
        triton_server.get_triton_python_backend_python_env = lambda: stub


def serve(flags: RivalFlags) -> None:
    _prepare_children()
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

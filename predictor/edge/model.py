"""What the SDK's app sees of a model: health and metadata."""

from collections.abc import Sequence
from typing import Any

from kserve import Model
from kserve.protocol.dataplane import DataPlane

from predictor.edge.service import InferService
from predictor.edge.tasks import TensorSpec
from predictor.edge.tensors import DEFAULT_VERSION

# What server metadata claims, by KServe's names and Triton's.
EXTENSIONS = (
    "model_repository_extension",
    "model_repository",
    "binary_tensor_data",
    "classification",
    "schedule_policy",
)


class ServedModel(Model):
    """A model of the SDK that leads to the engine. Registered at once, healthy when loaded."""

    def __init__(self, name: str, service: InferService) -> None:
        super().__init__(name)
        self._service = service
        self.ready = True

    async def healthy(self) -> bool:
        return self._service.is_ready(self.name)

    def get_input_types(self) -> list[dict[str, Any]]:
        return _described(self._service.codec(self.name).inputs)

    def get_output_types(self) -> list[dict[str, Any]]:
        return _described(self._service.codec(self.name).outputs)


def _described(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [
        {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs
    ]


class EdgeDataPlane(DataPlane):
    """The SDK's data plane, made to mean its readiness and to name versions and extensions."""

    def __init__(self, service: InferService, registry: object) -> None:
        super().__init__(model_registry=registry)
        self._service = service

    async def ready(self) -> bool:
        return self._service.all_ready()

    async def live(self) -> dict[str, str]:
        return {"status": "alive" if self._service.is_live() else "dead"}

    def metadata(self) -> dict[str, Any]:
        return {**super().metadata(), "extensions": list(EXTENSIONS)}

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        return {**await super().model_metadata(model_name), "versions": [DEFAULT_VERSION]}

"""What the SDK's app sees of a model: health, metadata, V1 predict, and a fixed repository."""

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

import msgspec
from kserve import Model
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from predictor.core.errors import HeadwayError, InvalidRequest, UnknownModel
from predictor.core.shown import shown
from predictor.edge.http_codec import NOT_JSON
from predictor.edge.service import (
    TIER_HEADER,
    TIMEOUT_HEADER,
    Call,
    InferService,
    Pending,
    timeout_from_header,
)
from predictor.edge.tasks import TensorSpec
from predictor.edge.tensors import InferRequest, Tensor, new_id

UNNAMED = ""  # the SDK does not say which model a V1 body is for


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

    async def predict(
        self,
        payload: object,
        headers: Mapping[str, str] | None = None,
        response_headers: object = None,
    ) -> dict[str, Any]:
        """V1: `{"instances": […]}` to `{"predictions": […]}`, a dict of outputs for each."""
        try:
            pending = await self._submit(payload, headers or {})
        except HeadwayError as error:
            self._service.refused(self.name, "v1", error)
            raise
        reply = await pending.future
        replied_s = monotonic()
        predictions = _by_row(pending.codec.encode(reply.results, pending.counts))
        self._service.report(pending, replied_s)
        return {"predictions": predictions}

    async def _submit(self, payload: object, headers: Mapping[str, str]) -> Pending:
        started_s = monotonic()
        codec = self._service.codec(self.name)
        request = InferRequest(id=new_id(), inputs=codec.instances(_instances(payload)))
        timeout = headers.get(TIMEOUT_HEADER)
        call = Call(
            self.name,
            "v1",
            started_s,
            headers.get(TIER_HEADER),
            None if timeout is None else timeout_from_header(timeout),
        )
        return await self._service.submit(request, call, codec)


def _instances(payload: object) -> Sequence[object]:
    # The SDK hands on raw bytes where the Content-Type carries a charset.
    if isinstance(payload, bytes):
        try:
            payload = msgspec.json.decode(payload)
        except NOT_JSON as error:
            raise InvalidRequest(f"body: {error}") from None
    instances = payload.get("instances") if isinstance(payload, dict) else None
    if not isinstance(instances, list):
        raise InvalidRequest('instances: must be a list; send {"instances": […]}')
    return instances


def _by_row(outputs: Sequence[Tensor]) -> list[dict[str, Any]]:
    columns = {
        tensor.name: tensor.array().tolist() if isinstance(tensor.data, bytes) else tensor.data
        for tensor in outputs
    }
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def _described(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [
        {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs
    ]


class EdgeDataPlane(DataPlane):
    """The SDK's data plane, made to refuse bad bodies, mean its readiness and name extensions."""

    def __init__(self, service: InferService, registry: object) -> None:
        super().__init__(model_registry=registry)
        self._service = service

    async def ready(self) -> bool:
        return self._service.all_ready()

    def decode(self, body: object, headers: object, *more: object, **named: object) -> Any:
        """A V1 body. Raises InvalidRequest, also where the SDK's CloudEvents library breaks."""
        try:
            return super().decode(body, headers, *more, **named)
        except Exception as error:
            refusal = InvalidRequest(f"body: not JSON and no CloudEvent: {error}")
            self._service.refused(UNNAMED, "v1", refusal)
            raise refusal from None

    def metadata(self) -> dict[str, Any]:
        known = super().metadata()
        return {**known, "extensions": [*known["extensions"], "binary_tensor_data"]}


class FixedRepository(ModelRepositoryExtension):
    """Models are fixed when the server starts: load finds them there, unload is refused."""

    def __init__(self, service: InferService, registry: object) -> None:
        super().__init__(model_registry=registry)
        self._service = service

    async def load(self, model_name: str) -> dict[str, Any]:
        self._service.codec(model_name)
        return {"name": model_name, "load": True}

    async def unload(self, model_name: str) -> dict[str, Any]:
        if model_name not in self._service.names:
            raise UnknownModel(f"model {shown(model_name)} is not served here")
        raise InvalidRequest(
            f"model {shown(model_name)} cannot be unloaded while serving; restart without it"
        )

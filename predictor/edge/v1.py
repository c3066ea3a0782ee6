"""V1 over HTTP: `{"instances": […]}` to `{"predictions": […]}`, also in CloudEvents.

It is an exchange like v2's, and differs in its bodies. CloudEvents are read and written by the
SDK's data plane, which knows their two forms, binary (in headers) and structured (in the body).
"""

from collections.abc import Awaitable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from cloudevents.sdk.converters.util import has_binary_headers
from kserve import ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.utils.utils import is_structured_cloudevent

from predictor.core.errors import InvalidRequest
from predictor.edge.http_codec import JSON_TYPE
from predictor.edge.http_exchange import AnswerHeaders, HttpExchange
from predictor.edge.json_text import NOT_JSON, check_brackets, not_json, without_mark
from predictor.edge.parameters import NOT_DONE, RequestParameters, converted, fields_of
from predictor.edge.tasks import TaskCodec
from predictor.edge.tensors import InferAnswer, InferRequest, Tensor, new_id

_STRUCTURED_TYPE = "application/cloudevents+json"
_KNOWN = {"parameters": fields_of(RequestParameters, {*NOT_DONE, "binary_data_output"})}
_SIGNATURES = ("serving_default", "")  # as TensorFlow Serving's clients name the only one
_ENCODER = msgspec.json.Encoder()


class V1Exchange(HttpExchange):
    """An `Exchange` of V1 over ASGI."""

    __slots__ = ("_attributes", "_named")

    protocol = "v1"

    def decode(self, body: bytes, codec: TaskCodec) -> InferRequest:
        self._named = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers.items()
        }
        self._attributes: dict[str, Any] = {}  # of the CloudEvent that the body came in
        plain = self._plain(body)
        instances = _instances(plain, codec.inputs[0].name)
        parameters = _parameters(plain)
        return InferRequest(
            id=new_id(),
            inputs=codec.instances(instances),
            priority=parameters.priority,
            timeout_us=parameters.timeout,
            truncate=parameters.truncate is not False,
            sampling=parameters.sampling,
        )

    def encode(self, answer: InferAnswer, request: InferRequest) -> tuple[bytes, AnswerHeaders]:
        plain: dict[str, Any] = {"predictions": _by_row(answer.outputs)}
        if answer.truncated:
            plain["parameters"] = {"truncated_rows": answer.truncated}
        if not self._asks_for_event:
            return _ENCODER.encode(plain), [(b"content-type", JSON_TYPE)]
        body, headers = _events().encode(self.model, plain, self._named, self._attributes)
        return (
            body if isinstance(body, bytes) else str(body).encode(),
            [
                (name.lower().encode("latin-1"), str(value).encode("latin-1"))
                for name, value in headers.items()
                if name.lower() != "content-length"
            ],
        )

    def send(self, encoded: tuple[bytes, AnswerHeaders]) -> Awaitable[None]:
        return self.send_whole(*encoded)

    @property
    def _asks_for_event(self) -> bool:
        return has_binary_headers(self._named) or (
            self._named.get("content-type") == _STRUCTURED_TYPE
        )

    def _plain(self, body: bytes) -> dict[str, Any]:
        """The body's object, out of its CloudEvent. Raises InvalidRequest."""
        body = without_mark(body)
        check_brackets(body)
        try:
            if has_binary_headers(self._named):
                plain, self._attributes = _events().decode(body, self._named)
            else:
                plain, self._attributes = _structured(msgspec.json.decode(body))
            if isinstance(plain, bytes):
                plain = msgspec.json.decode(plain)
        except InvalidRequest:
            raise
        except NOT_JSON as error:
            raise not_json(error, body) from None
        except Exception as error:  # the CloudEvents library breaks in many ways
            raise InvalidRequest(f"body: not JSON and no CloudEvent: {error}") from None
        if not isinstance(plain, dict):
            raise InvalidRequest('body: must be an object; send {"instances": […]}')
        return plain


@cache
def _events() -> DataPlane:
    """The SDK's reader and writer of CloudEvents. Which models it knows does not matter."""
    return DataPlane(model_registry=ModelRepository())


def _structured(plain: Any) -> tuple[Any, dict[str, Any]]:
    """What a body holds, and the attributes where it is a CloudEvent. Raises InvalidRequest."""
    if not isinstance(plain, dict) or "specversion" not in plain:
        return plain, {}
    if not is_structured_cloudevent(plain):
        raise InvalidRequest(
            "body: a CloudEvent takes specversion, id, source, type, time and data"
        )
    data, attributes = _events().decode_cloudevent(plain)
    return data, attributes


def _instances(plain: Mapping[str, Any], column: str) -> Sequence[object]:
    """The instances of a body in which nothing is asked for that is not done.

    `column` is the one input that an instance which is an object may name.
    """
    if "inputs" in plain:
        raise InvalidRequest(
            'inputs: columns are not read in V1; send {"instances": […]}, one for each row'
        )
    for name in plain:
        if name not in ("instances", "signature_name", "parameters"):
            raise InvalidRequest(
                f"{name[:64]}: not known here; leave it out, or use: instances, parameters"
            )
    signature = plain.get("signature_name")
    if signature is not None and signature not in _SIGNATURES:
        raise InvalidRequest(
            f"signature_name: models here have one signature, {_SIGNATURES[0]!r}; leave it out"
        )
    instances = plain.get("instances")
    if not isinstance(instances, list):
        raise InvalidRequest('instances: must be a list; send {"instances": […]}')
    for index, instance in enumerate(instances):
        if isinstance(instance, dict):
            for name in instance:
                if name != column:
                    raise InvalidRequest(
                        f"instances[{index}].{name[:64]}: not known here; an object may hold"
                        f" {column!r} alone"
                    )
    return instances


def _parameters(plain: Mapping[str, Any]) -> RequestParameters:
    found = plain.get("parameters")
    if found is None:
        return RequestParameters()
    if not isinstance(found, dict):
        raise InvalidRequest("parameters: must be an object")
    parameters = converted(found, RequestParameters, "parameters", _KNOWN)
    parameters.check()
    if parameters.binary_data_output:
        raise InvalidRequest("parameters.binary_data_output: V1 answers in JSON; leave it out")
    return parameters


def _by_row(outputs: Sequence[Tensor]) -> list[dict[str, Any]]:
    columns = {
        tensor.name: tensor.array().tolist() if isinstance(tensor.data, bytes) else tensor.data
        for tensor in outputs
    }
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]

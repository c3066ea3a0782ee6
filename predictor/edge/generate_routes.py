"""v2's generate and generate_stream, in the form of the Open Inference Protocol and Triton's.

The prompt is `text_input`. Options are in `parameters`, or, as Triton's clients send them, beside
it. A stream's events hold what the text has grown by.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from predictor.core.errors import HeadwayError, InvalidRequest
from predictor.edge.asgi import Receive, Scope, Send, send_json, send_not_allowed
from predictor.edge.bodies import Bodies
from predictor.edge.event_stream import EventStream, event
from predictor.edge.generate_request import GenerateRequest
from predictor.edge.generating import Change
from predictor.edge.generation_codec import DEFAULT_MAX_TOKENS
from predictor.edge.http_codec import JSON_TYPE
from predictor.edge.json_text import read_json
from predictor.edge.parameters import (
    NOT_DONE,
    RequestParameters,
    converted,
    fields_of,
    readable,
)
from predictor.edge.sampling import SamplingFields
from predictor.edge.service import InferService
from predictor.edge.statuses import error_body
from predictor.edge.tasks import TaskCodec
from predictor.edge.tensors import DEFAULT_VERSION, InferAnswer, InferRequest, new_id
from predictor.edge.unserved import GENERATE
from predictor.edge.watch import Watchers

_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/(generate|generate_stream)")
_STREAM = "generate_stream"
_ENCODER = msgspec.json.Encoder()


class _Generate(msgspec.Struct, frozen=True):
    text_input: str
    id: str | None = None
    stream: bool | None = None
    exclude_input_in_output: bool | None = None  # Triton's; output never has the input here
    parameters: dict[str, Any] | None = None


_BODY = msgspec.json.Decoder(dict[str, Any])
_OWN = frozenset(_Generate.__struct_fields__)
_OPTIONS = fields_of(RequestParameters, {*NOT_DONE, "binary_data_output", "truncate"})
_KNOWN = {
    "": f"{fields_of(_Generate, {'exclude_input_in_output'})}, {_OPTIONS}",
    "parameters": _OPTIONS,
}


class GenerateRoutes:
    """ASGI: the two routes."""

    def __init__(self, service: InferService, bodies: Bodies, watchers: Watchers) -> None:
        self._service = service
        self._bodies = bodies
        self._watchers = watchers

    @staticmethod
    def takes(path: str) -> bool:
        return _PATH.fullmatch(path) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await send_not_allowed(send, "POST")
            return
        named = _PATH.fullmatch(scope["path"])
        assert named is not None
        model, version, kind = named.groups("")
        if self._generates_nothing(model):
            await send_json(send, HTTPStatus.NOT_IMPLEMENTED, error_body(GENERATE))
            return
        exchange = GenerateExchange(
            model, version, scope, receive, send, self._bodies, self._watchers
        )
        exchange.streams = kind == _STREAM
        await exchange.run(self._service.lifecycle)

    def _generates_nothing(self, model: str) -> bool:
        """False also where it is not known: the lifecycle says what is wrong."""
        spec = self._service.engine.status().models.get(model)
        return spec is not None and spec.generation is None


class GenerateExchange(EventStream):
    """An `Exchange` of one prompt."""

    __slots__ = ("_id", "streams")

    streams: bool

    def decode(self, body: bytes, codec: TaskCodec) -> GenerateRequest:
        plain = read_json(body, _BODY)
        own = {name: value for name, value in plain.items() if name in _OWN}
        beside = {name: value for name, value in plain.items() if name not in _OWN}
        try:
            asked = msgspec.convert(own, _Generate)
        except msgspec.ValidationError as error:
            raise InvalidRequest(readable(str(error))) from None
        if asked.exclude_input_in_output is False:
            raise InvalidRequest(
                "exclude_input_in_output: the output never holds the input here; leave it out"
            )
        options = {**beside, **(asked.parameters or {})}
        twice = next((name for name in asked.parameters or () if name in beside), None)
        if twice is not None:
            raise InvalidRequest(f"{twice[:64]}: is beside parameters and in them; send it once")
        try:
            parameters = msgspec.convert(options, RequestParameters)
        except msgspec.ValidationError as error:
            for found, where in ((beside, ""), (asked.parameters or {}, "parameters")):
                converted(found, RequestParameters, where, _KNOWN)
            raise InvalidRequest(readable(str(error), known=_KNOWN)) from None
        parameters.check()
        if parameters.binary_data_output:
            raise InvalidRequest("binary_data_output: the answer is JSON here; leave it out")
        self._id = asked.id or new_id()
        self.streams = self.streams or bool(asked.stream)
        return GenerateRequest(
            id=self._id,
            inputs={},
            priority=parameters.priority,
            timeout_us=parameters.timeout,
            prompts=[asked.text_input],
            fields=parameters.sampling or SamplingFields(),
            max_tokens=parameters.max_tokens or DEFAULT_MAX_TOKENS,
            streams=self.streams,
            prompt_name="text_input",
        )

    def encode(self, answer: InferAnswer, request: InferRequest) -> bytes:
        assert answer.texts is not None
        (whole,) = answer.texts.whole()
        return _ENCODER.encode(
            {
                **self._head(),
                "text_output": whole.text,
                "finish_reason": whole.finish.value,
                "completion_tokens": whole.tokens_generated,
                "parameters": {
                    "queue_us": answer.queue_us,
                    "service_us": answer.service_us,
                    "batch_size": answer.batch_size,
                },
            }
        )

    async def send(self, encoded: bytes) -> None:
        await self.send_whole(encoded, [(b"content-type", JSON_TYPE)])

    def encode_part(self, changes: Sequence[Change]) -> bytes:
        events = []
        for change in changes:
            if not change.text and change.finish is None:
                continue
            part = {**self._head(), "text_output": change.text}
            if change.finish is not None:
                part["finish_reason"] = change.finish.value
            events.append(event(_ENCODER.encode(part)))
        return b"".join(events)

    def error_event(self, error: HeadwayError) -> bytes:
        return event(error_body(error.message))

    def _head(self) -> dict[str, Any]:
        return {"id": self._id, "model_name": self.model, "model_version": DEFAULT_VERSION}

"""The parameters of the v2 protocol that are known here, for every transport.

These lists are closed. A parameter is applied, or asks for nothing that could be done, or the
request is refused with its name: a client must not believe that something was done for it.
The names are those of the Open Inference Protocol and of Triton's and the SDK's clients.
"""

import re
from collections.abc import Container, Mapping
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from predictor.core.errors import InvalidRequest
from predictor.edge.sampling import SamplingFields
from predictor.edge.tensors import BYTES, MAX_PRIORITY, MAX_TIMEOUT_US

BASE64 = "base64"
# What elements are anyhow; MLServer's clients say it.
_PLAIN_CONTENT_TYPES = ("np", "str")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_INDEX = re.compile(r"\[[^\]]*\]")
_MAX_NAME = 64  # characters of an unknown name that a message repeats


class RequestParameters(SamplingFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`parameters` of a request. None: the client does not say."""

    priority: Annotated[int, Meta(ge=0, le=MAX_PRIORITY)] | None = None
    timeout: Annotated[int, Meta(ge=0, le=MAX_TIMEOUT_US)] | None = None  # microseconds
    binary_data_output: bool | None = None
    truncate: bool | None = None
    content_type: str | None = None
    # Refused, unless they ask for nothing.
    sequence_id: int | str | None = None
    sequence_start: bool | None = None
    sequence_end: bool | None = None
    triton_enable_empty_final_response: bool | None = None

    @property
    def sampling(self) -> SamplingFields | None:
        """What is asked of generated text; None where nothing is."""
        asked = {name: getattr(self, name) for name in SamplingFields.__struct_fields__}
        if all(value is None for value in asked.values()):
            return None
        return SamplingFields(**asked)

    def check(self) -> None:
        """Raises InvalidRequest for what is known and not done here."""
        if self.content_type and self.content_type not in _PLAIN_CONTENT_TYPES:
            raise InvalidRequest(
                f"parameters.content_type: {self.content_type[:_MAX_NAME]!r} is not done for a"
                f" whole request; send plain tensors, or {BASE64!r} in an input's parameters"
            )
        if self.sequence_id or self.sequence_start or self.sequence_end:
            raise InvalidRequest(
                "parameters.sequence_id, sequence_start, sequence_end: models here keep no state"
                " between requests; leave them out"
            )
        if self.triton_enable_empty_final_response:
            raise InvalidRequest(
                "parameters.triton_enable_empty_final_response: an answer comes whole, and"
                " nothing after it; leave it out"
            )


class _SharedMemory(msgspec.Struct, forbid_unknown_fields=True):
    shared_memory_region: str | None = None
    shared_memory_byte_size: int | None = None
    shared_memory_offset: int | None = None

    def check_memory(self, where: str) -> None:
        for name in ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"):
            if getattr(self, name) is not None:
                raise InvalidRequest(
                    f"{where}.{name}: shared memory is not served here; send data in the request"
                    " and read it from the answer"
                )


class InputParameters(_SharedMemory, forbid_unknown_fields=True):
    """`parameters` of an input."""

    binary_data_size: Annotated[int, Meta(ge=0)] | None = None
    content_type: str | None = None

    def is_base64(self, index: int, datatype: str) -> bool:
        """Whether elements are base64. Raises InvalidRequest for what is not done here."""
        self.check_memory(f"inputs[{index}].parameters")
        content_type = self.content_type
        if not content_type or content_type == "np":
            return False
        if datatype == BYTES and content_type in ("str", BASE64):
            return content_type == BASE64
        raise InvalidRequest(
            f"inputs[{index}].parameters.content_type: {content_type[:_MAX_NAME]!r} is not done for"
            f" {datatype[:_MAX_NAME]}; {BYTES} may be 'str' or {BASE64!r}, numbers are as they come"
        )


class OutputParameters(_SharedMemory, forbid_unknown_fields=True):
    """`parameters` of an output that is asked for by name."""

    binary_data: bool | None = None
    classification: Annotated[int, Meta(ge=0)] | None = None  # the best so many; 0: all as it is

    def check(self, index: int) -> None:
        """Raises InvalidRequest for what is known and not done here."""
        self.check_memory(f"outputs[{index}].parameters")


Parameters = TypeVar("Parameters", RequestParameters, InputParameters, OutputParameters)


Fields = Mapping[str, str]  # what is known at each place of a body, by its path without indices


def fields_of(kind: type[msgspec.Struct], refused: Container[str] = ()) -> str:
    """The names of a struct's fields, its own before those that it has from others, without those
    that are known only to be refused."""
    own_first = sorted(kind.__struct_fields__, key=lambda name: name not in kind.__annotations__)
    return ", ".join(name for name in own_first if name not in refused)


def converted(
    found: Mapping[str, object], kind: type[Parameters], where: str, known: Fields | None = None
) -> Parameters:
    """Parameters that came as plain values. Raises InvalidRequest, naming the field."""
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(readable(str(error), where, known)) from None


# What is known at each place of a request, for the sentence that refuses the rest.
NOT_DONE = (
    *("content_type", "sequence_id", "sequence_start", "sequence_end"),
    "triton_enable_empty_final_response",
)
_KNOWN: Fields = {
    "": "id, inputs, outputs, parameters, model_name, model_version",
    "parameters": fields_of(RequestParameters, NOT_DONE),
    "inputs": "name, datatype, shape, data, parameters",
    "inputs.parameters": "binary_data_size, content_type",
    "outputs": "name, parameters",
    "outputs.parameters": "binary_data, classification",
}


def readable(problem: str, prefix: str = "", known: Fields | None = None) -> str:
    """msgspec's "problem - at `$.field`" with the field in front.

    `known`: the fields of the body that was read; None: of a v2 request.
    """
    text, _, path = problem.rpartition(" - at `$") if " - at `$" in problem else (problem, "", "")
    field = prefix + path.rstrip("`").removeprefix("." if not prefix else "")
    unknown = _UNKNOWN.fullmatch(text)
    if unknown is not None:
        names = (_KNOWN if known is None else known).get(_INDEX.sub("", field), "")
        name = f"{field}.{unknown[1][:_MAX_NAME]}".removeprefix(".")
        return f"{name}: not known here; leave it out" + (f", or use: {names}" if names else "")
    return f"{field}: {text}" if field else f"body: {text}"

"""What a right answer looks like, by the cheapest test that a wrong one fails."""

import re
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

FP32_BYTES = 4

_CHECKSUM = re.compile(rb'"data"\s*:\s*\[\s*(-?\d{1,19})\s*\]')
_DATA = re.compile(rb'"data"\s*:\s*\[([^\]]*)\]')
_JSON_LENGTH = re.compile(
    rb"\r\ninference-header-content-length:[ \t]*(\d{1,9})\r\n", re.IGNORECASE
)


class AnswerCheck(Protocol):
    """Looks at an answer of good status, as it came over the wire."""

    def http(self, response: bytes, body_at: int) -> bool:
        """`response` is head and body; the body begins at `body_at`."""
        ...

    def grpc(self, message: bytes) -> bool: ...


@dataclass(frozen=True, slots=True)
class AnyAnswer:
    """For models whose answer cannot be known."""

    def http(self, response: bytes, body_at: int) -> bool:
        return True

    def grpc(self, message: bytes) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Checksum:
    """The only output holds this one INT64."""

    value: int

    def http(self, response: bytes, body_at: int) -> bool:
        found = _CHECKSUM.search(response, body_at)
        return found is not None and int(found[1]) == self.value

    def grpc(self, message: bytes) -> bool:
        answer = _infer_response(message)
        if answer.raw_output_contents:
            raw = answer.raw_output_contents[0]
            return len(raw) == 8 and int(struct.unpack("<q", raw)[0]) == self.value
        if not answer.outputs:
            return False
        values = answer.outputs[0].contents.int64_contents
        return len(values) == 1 and int(values[0]) == self.value


@dataclass(frozen=True, slots=True)
class Probabilities:
    """The only v2 output has the shape [rows, labels], and as many values."""

    rows: int
    labels: int

    def http(self, response: bytes, body_at: int) -> bool:
        if not _shape(self.rows, self.labels).search(response, body_at):
            return False
        json_length = _JSON_LENGTH.search(response, 0, body_at)
        if json_length is not None:
            binary = len(response) - body_at - int(json_length[1])
            return binary == self.rows * self.labels * FP32_BYTES
        data = _DATA.search(response, body_at)
        return data is not None and data[1].count(b",") + 1 == self.rows * self.labels

    def grpc(self, message: bytes) -> bool:
        answer = _infer_response(message)
        return (
            len(answer.outputs) == len(answer.raw_output_contents) == 1
            and list(answer.outputs[0].shape) == [self.rows, self.labels]
            and len(answer.raw_output_contents[0]) == self.rows * self.labels * FP32_BYTES
        )


@dataclass(frozen=True, slots=True)
class Holds:
    """The body holds `mark` exactly `times` times: enough for an answer of plain numbers."""

    mark: bytes
    times: int

    def http(self, response: bytes, body_at: int) -> bool:
        return response.count(self.mark, body_at) == self.times

    def grpc(self, message: bytes) -> bool:
        return message.count(self.mark) == self.times


@cache
def _shape(rows: int, labels: int) -> re.Pattern[bytes]:
    return re.compile(rb'"shape"\s*:\s*\[\s*%d\s*,\s*%d\s*\]' % (rows, labels))


def _infer_response(message: bytes) -> Any:
    # Imported here because an HTTP run has no need of its 0.3 s.
    from loadtest.bench import v2_messages

    return v2_messages.ModelInferResponse.FromString(message)

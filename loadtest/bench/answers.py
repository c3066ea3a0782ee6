"""What a right answer looks like, by the cheapest test that a wrong one fails."""

import re
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

FP32_BYTES = 4

_BLANKS = b" \t\r\n"
_SERVICE_US = re.compile(rb'"service_us"\s*:\s*(\d{1,12})')
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


def service_s_of(response: bytes, body_at: int) -> float | None:
    """How long the request's batch was on the device, if the answer says so."""
    found = _SERVICE_US.search(response, body_at)
    return None if found is None else int(found[1]) / 1e6


@dataclass(frozen=True, slots=True)
class Checksums:
    """The only output holds these INT64."""

    values: tuple[int, ...]

    def http(self, response: bytes, body_at: int) -> bool:
        found = _DATA.search(response, body_at)
        if found is None:
            return False
        return found[1].translate(None, _BLANKS) == b",".join(b"%d" % each for each in self.values)

    def grpc(self, message: bytes) -> bool:
        answer = _infer_response(message)
        if answer.raw_output_contents:
            expected = struct.pack(f"<{len(self.values)}q", *self.values)
            return bytes(answer.raw_output_contents[0]) == expected
        return bool(answer.outputs) and self.values == tuple(
            answer.outputs[0].contents.int64_contents
        )


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

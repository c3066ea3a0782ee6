"""What is taken of the head of an HTTP/1.1 request, and how what is not is refused."""

import urllib.parse
from collections.abc import Sequence
from http import HTTPStatus

import httptools

from predictor.edge.statuses import error_body

# Envoy, which stands in front of most servers like this one, takes 60 KiB and 100 lines and adds
# some of its own.
MAX_HEAD_BYTES = 1 << 16
MAX_HEADERS = 128
MAX_LINE_BYTES = 1 << 14
MAX_TARGET_BYTES = 1 << 13

Header = tuple[bytes, bytes]


class Refusal(Exception):
    """Ends a connection with one answer; `status` is None where there is nothing to answer."""

    def __init__(
        self, status: HTTPStatus | None, message: str, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s

    def headers(self) -> list[Header]:
        """Without Content-Length."""
        found = [(b"content-type", b"application/json"), (b"connection", b"close")]
        if self.retry_after_s is not None:
            found.append((b"retry-after", b"%d" % self.retry_after_s))
        return found

    def answer(self) -> bytes:
        """A whole HTTP answer."""
        assert self.status is not None
        body = error_body(self.message)
        lines = [b"HTTP/1.1 %d %s" % (self.status, self.status.phrase.encode())]
        lines += [
            b"%s: %s" % header
            for header in (*self.headers(), (b"content-length", b"%d" % len(body)))
        ]
        return b"\r\n".join((*lines, b"", body))


def check_size(headers: Sequence[Header]) -> None:
    """Raises Refusal where the lines are too many or too long."""
    if len(headers) > MAX_HEADERS:
        raise too_many_headers()
    for name, value in headers:
        if len(name) + len(value) > MAX_LINE_BYTES:
            shown = name[:64].decode("latin-1")
            raise Refusal(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"header {shown!r} is over {MAX_LINE_BYTES} bytes; shorten it",
            )
    if sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEAD_BYTES:
        raise head_too_large()


def too_many_headers() -> Refusal:
    return Refusal(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        f"over {MAX_HEADERS} headers or trailers; send fewer",
    )


def head_too_large() -> Refusal:
    return Refusal(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        f"headers, trailers or chunk extensions are over {MAX_HEAD_BYTES} bytes; send fewer",
    )


def target_too_long() -> Refusal:
    return Refusal(
        HTTPStatus.REQUEST_URI_TOO_LONG, f"the URL is over {MAX_TARGET_BYTES} bytes; shorten it"
    )


def path_and_query(target: bytes) -> tuple[bytes, bytes]:
    """Of a request target in any form. Raises Refusal."""
    if target.startswith(b"/"):
        path, _, query = target.partition(b"#")[0].partition(b"?")
        return path, query
    if target == b"*":
        return target, b""
    try:
        parsed = httptools.parse_url(target)
    except httptools.HttpParserError:
        parsed = None
    if parsed is None or parsed.schema is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the URL is neither a path nor a whole URL")
    return parsed.path or b"/", parsed.query or b""


def readable(path: bytes) -> str:
    """A path without its percent signs. Raises Refusal."""
    try:
        text = path.decode("ascii")
    except UnicodeDecodeError:
        raise Refusal(
            HTTPStatus.BAD_REQUEST, "the URL has bytes beyond ASCII; send them as %XX"
        ) from None
    return urllib.parse.unquote(text) if "%" in text else text


def without_upgrade(method: bytes, target: bytes, version: str, headers: Sequence[Header]) -> bytes:
    """The head of a request without its offer to change the protocol."""
    lines = [b"%s %s HTTP/%s" % (method, target, version.encode())]
    for name, value in headers:
        if name in {b"upgrade", b"http2-settings"}:
            continue
        kept = value
        if name == b"connection":
            tokens = (token.strip() for token in value.split(b","))
            kept = b", ".join(
                token for token in tokens if token.lower() not in {b"upgrade", b"http2-settings"}
            )
            if not kept:
                continue
        lines.append(b"%s: %s" % (name, kept))
    return b"\r\n".join((*lines, b"", b""))

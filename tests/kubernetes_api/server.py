"""A test double of an API server: list, watch, get and patch of one ConfigMap, over real HTTP.

It has RBAC by token, answers 401, 403, 404, 409, 410, 415 and 422 as the real one does, and fails
in the ways that networks and proxies do.
"""

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.kubernetes_api.objects import BOUND_S, NAME, NAMESPACE, OneConfigMap, Refusal

COLLECTION = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
PREDICTOR, DASHBOARD = "predictor-token", "dashboard-token"
MERGE_PATCH = "application/merge-patch+json"


class Drop(Enum):
    """How a watch ends."""

    ENDED = "ended"  # in good order, as at its timeout
    CUT = "cut"  # in the middle of a line
    RESET = "reset"


class ApiServer(OneConfigMap):
    def __init__(self, certificate: tuple[str, str] | None = None) -> None:
        """`certificate`: files of a certificate and its key; None: plain HTTP."""
        super().__init__()
        self.asked: list[str] = []  # verbs, in order; "nothing" where the server did not see it
        self.watches = 0  # open now
        self.told = 0  # events, to any watch
        self.behave()
        self.drops = 0
        self.how = Drop.ENDED
        self.closing = False
        self._http = _Http(self, certificate)

    def behave(self) -> None:
        """As a server does that is well."""
        self.rights = {PREDICTOR: {"get", "list", "watch"}, DASHBOARD: {"get", "patch"}}
        self.down = False  # closes every connection without an answer
        self.page: tuple[int, bytes] | None = None  # what a proxy answers in its place
        self.gone_at_once = False  # an old version is answered with 410 instead of an event
        self.before_patch: Callable[[], None] = lambda: None  # once
        self.loses_answers = False  # to patches

    def renew(self) -> None:
        """For another test: nothing is there, and nothing was asked."""
        with self.changed:
            self.behave()
            self.forget()
            self.asked.clear()

    @property
    def url(self) -> str:
        return self._http.url

    @property
    def port(self) -> int:
        return self._http.server_port

    def drop_watches(self, how: Drop) -> None:
        with self.changed:
            self.drops, self.how = self.drops + 1, how
            self.changed.notify_all()
            self.wait_for(lambda: self.watches == 0)

    def find_nobody_watching(self) -> None:
        """As a server does: by telling news until that fails."""
        for number in range(10):
            told = self.told
            self.label(number=str(number))
            self.wait_for(lambda told=told: self.watches == 0 or self.told > told)  # type: ignore[misc]
            if self.watches == 0:
                return
        raise AssertionError("someone watches")

    def go_down(self) -> None:
        self.down = True
        self.drop_watches(Drop.RESET)

    def note(self, verb: str) -> None:
        with self.changed:
            self.asked.append(verb)
            self.changed.notify_all()

    def authorise(self, token: str, verb: str, selector: str) -> None:
        """As RBAC with resourceNames does: lists and watches of this one name alone."""
        if token not in self.rights:
            raise Refusal(401, "Unauthorized", "Unauthorized")
        narrow = verb not in ("list", "watch") or selector == f"metadata.name={NAME}"
        if verb not in self.rights[token] or not narrow:
            raise Refusal(
                403,
                "Forbidden",
                f'configmaps "{NAME}" is forbidden: User "system:serviceaccount:{NAMESPACE}:tester"'
                f' cannot {verb} resource "configmaps" in API group "" in the namespace'
                f' "{NAMESPACE}"',
            )

    @contextmanager
    def serving(self) -> Iterator["ApiServer"]:
        thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            with self.changed:
                self.closing = True
                self.changed.notify_all()
            self._http.shutdown()
            self._http.server_close()
            thread.join(BOUND_S)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client may keep its connection for longer than the test

    def __init__(self, api: ApiServer, certificate: tuple[str, str] | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = api
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may go away at any moment."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the second part of an answer waits for the client
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        pass

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_PATCH(self) -> None:
        self._answer(self._patch)

    def _answer(self, work: Callable[[ApiServer, str, dict[str, str]], None]) -> None:
        api = self.server.api
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        if api.down or api.page is not None:
            api.note("nothing")
        if api.down:
            self._abort()
        elif api.page is not None:
            self._send(*api.page, kind="text/html")
        else:
            try:
                work(api, address.path, query)
            except Refusal as refusal:
                self._json(refusal.code, refusal.status())

    def _get(self, api: ApiServer, path: str, query: dict[str, str]) -> None:
        if path == f"{COLLECTION}/{NAME}":
            self._authorise(api, "get", query)
            self._json(200, api.found())
        elif path != COLLECTION:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        elif query.get("watch") == "true":
            self._authorise(api, "watch", query)
            self._watch(api, int(query["resourceVersion"]), query)
        else:
            self._authorise(api, "list", query)
            self._json(200, api.listed())

    def _authorise(self, api: ApiServer, verb: str, query: dict[str, str]) -> None:
        api.note(verb)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        token = token.removeprefix("bearer ")  # as the client writes it in a pod
        api.authorise(token, verb, query.get("fieldSelector", ""))

    def _patch(self, api: ApiServer, path: str, query: dict[str, str]) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert path == f"{COLLECTION}/{NAME}"
        self._authorise(api, "patch", query)
        if self.headers["Content-Type"] != MERGE_PATCH:
            raise Refusal(415, "UnsupportedMediaType", f"the body must be {MERGE_PATCH}")
        before, api.before_patch = api.before_patch, lambda: None
        before()
        merged = api.merge(json.loads(body))
        if api.loses_answers:
            self._abort()
        else:
            self._json(200, merged)

    def _watch(self, api: ApiServer, version: int, query: dict[str, str]) -> None:
        assert int(query["timeoutSeconds"]) > 0
        bookmarks = query.get("allowWatchBookmarks") == "true"
        expired: Refusal | None = None
        with api.changed:
            drops = api.drops
            try:
                api.check_version(version)
            except Refusal as refusal:
                if api.gone_at_once:
                    raise
                expired = refusal
            api.watches += 1
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with api.changed:
                api.changed.notify_all()
            if expired is not None:
                self._line({"type": "ERROR", "object": expired.status()})
                self._end(Drop.ENDED)
            else:
                self._tell(api, version, drops, bookmarks=bookmarks)
        finally:
            with api.changed:
                api.watches -= 1
                api.changed.notify_all()

    def _tell(self, api: ApiServer, version: int, drops: int, *, bookmarks: bool) -> None:
        told = version
        ending = False

        def stirred() -> bool:
            return api.closing or api.drops != drops or bool(api.since(told))

        while not ending:
            with api.changed:
                api.changed.wait_for(stirred, BOUND_S)
                news = api.since(told)
                ending = api.closing or api.drops != drops
            for told, event in news:  # noqa: B007 - where to go on from
                if event["type"] != "BOOKMARK" or bookmarks:
                    self._line(event)
                    with api.changed:
                        api.told += 1
                        api.changed.notify_all()
        self._end(api.how)

    def _end(self, how: Drop) -> None:
        if how is Drop.ENDED:
            self.wfile.write(b"0\r\n\r\n")
            return
        if how is Drop.CUT:
            half = b'{"type":"MODIFIED","obj'
            self.wfile.write(b"%x\r\n%s\r\n" % (len(half), half))
        self._abort(reset=how is Drop.RESET)

    def _line(self, event: dict[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def _json(self, status: int, plain: dict[str, Any]) -> None:
        self._send(status, json.dumps(plain).encode(), kind="application/json")

    def _send(self, status: int, body: bytes, *, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _abort(self, *, reset: bool = True) -> None:
        if reset:
            lingering = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
        self.close_connection = True
        self.connection.close()

"""`/docs`: a page that says where what is served here is described.

The SDK's own page shows the SDK's routes alone, and a browser needs the internet to draw it. Where
it was asked for (`--enable_docs_url=true`), it is left to the SDK.
"""

import html
from collections.abc import Sequence
from http import HTTPStatus

import kserve.model_server

from predictor.edge.asgi import Receive, Scope, Send, send_not_allowed

_PROTOCOL = "https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol"
_OPENAI = "https://platform.openai.com/docs/api-reference"
_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Headway: where the API is described</title>
<style>body {{font: 16px sans-serif; margin: 2rem auto; max-width: 45rem; padding: 0 1rem}}</style>
<h1>Headway</h1>
<p>Models served here:</p>
<ul>
{models}
</ul>
<ul>
<li><code>POST /v2/models/MODEL/infer</code>, the <a href="{protocol}">v2 (Open Inference)
protocol</a>, over HTTP and gRPC; <code>generate</code> and <code>generate_stream</code> beside it
where a model generates text</li>
<li><code>POST /v1/models/MODEL:predict</code>, V1</li>
<li><code>/openai/v1</code>: <a href="{openai}">OpenAI's API</a>, where a model generates text</li>
<li><code>POST /v2/models/MODEL/jobs</code> and <code>/v2/jobs/ID</code>, where jobs are kept</li>
<li><a href="/metrics"><code>/metrics</code></a>, for Prometheus</li>
<li><a href="/openapi.json"><code>/openapi.json</code></a>, the routes of KServe's SDK alone</li>
</ul>
<p>What requests may ask for, tasks with their inputs and outputs, and what each status means: the
sections &ldquo;Call it&rdquo;, &ldquo;Tasks&rdquo; and &ldquo;Statuses&rdquo; of the README that
comes with this server. A model says what it takes at <code>/v2/models/MODEL</code>.</p>
</html>
"""


class DocsRoutes:
    """ASGI: the page, for browsers and whoever else asks."""

    def __init__(self, model_names: Sequence[str]) -> None:
        self._taken = not kserve.model_server.args.enable_docs_url
        models = "\n".join(_link(name) for name in model_names)
        page = _PAGE.format(models=models, protocol=_PROTOCOL, openai=_OPENAI)
        self._body = page.encode()

    def takes(self, path: str) -> bool:
        return self._taken and path == "/docs"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await send_not_allowed(send, "GET, HEAD")
            return
        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-length", b"%d" % len(self._body)),
        ]
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})


def _link(model: str) -> str:
    name = html.escape(model)
    return f'<li><a href="/v2/models/{name}">{name}</a></li>'

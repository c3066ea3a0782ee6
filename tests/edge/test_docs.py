"""`/docs` is a page that says where the API is described, or the SDK's own."""

import urllib.request

from predictor.edge.http import EdgeApp
from tests.edge.asgi import call
from tests.edge.server_process import START_S, Server, running


def test_the_page_names_the_models_and_where_to_read_on() -> None:
    with running() as server:
        page, kind = read(server, "/docs")
        assert kind == "text/html; charset=utf-8"
        assert '<a href="/v2/models/sim">sim</a>' in page
        assert read(server, "/docs/") == (page, kind)
        for link in ("/metrics", "/openapi.json", "/v2/models/sim"):
            assert f'"{link}"' in page
            assert read(server, link)


def read(server: Server, path: str) -> tuple[str, str]:
    """Raises where it is not there."""
    with urllib.request.urlopen(server.url + path, timeout=START_S) as answer:
        return answer.read().decode(), answer.headers["content-type"]


def test_where_it_is_asked_for_the_page_is_the_sdks() -> None:
    with running("--enable_docs_url=true") as server:
        assert "swagger" in read(server, "/docs")[0].lower()


async def test_the_page_is_only_read(app: EdgeApp) -> None:
    answer = await call(app, "/docs")
    assert answer is not None
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")

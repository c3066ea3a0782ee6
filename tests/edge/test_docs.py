"""`/docs` is a page that says where the API is described, or the SDK's own."""

import urllib.request

import pytest

from predictor.edge.http import EdgeApp
from tests.edge.asgi import call
from tests.edge.server_process import START_S, running


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
def test_the_page_names_the_models_and_where_to_read_on(path: str) -> None:
    with running() as server:
        with urllib.request.urlopen(server.url + path, timeout=START_S) as answer:
            page = answer.read().decode()
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert '<a href="/v2/models/sim">sim</a>' in page
        for link in ("/metrics", "/openapi.json", "/v2/models/sim"):
            assert f'"{link}"' in page
            with urllib.request.urlopen(server.url + link, timeout=START_S) as answer:
                assert answer.status == 200


def test_where_it_is_asked_for_the_page_is_the_sdks() -> None:
    with (
        running("--enable_docs_url=true") as server,
        urllib.request.urlopen(server.url + "/docs", timeout=START_S) as answer,
    ):
        assert "swagger" in answer.read().decode().lower()


async def test_the_page_is_only_read(app: EdgeApp) -> None:
    answer = await call(app, "/docs")
    assert answer is not None
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")

"""Who may talk to the dashboard: asked over HTTP and by websocket, as a real process serves it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard.hosts import Host, is_this_machine, known_hosts, parse_host, same_origin
from tests.dashboard.prometheus_process import until
from tests.dashboard.serving import Served, served

NAMED = "headway.example.org"


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("dashboard"), HEADWAY_HOSTS=f"{NAMED}, other:8443") as it:
        yield it


def strange_hosts(port: int) -> list[str]:
    return [
        *("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}"),
        *(f"localhost.evil.example:{port}", f"evil.localhost:{port}", f"{NAMED}.evil.example"),
        *(f"127.0.0.1:{port + 1}", f"localhost:{port + 1}", "127.0.0.1", "localhost"),
        *(f"192.168.0.1:{port}", f"0.0.0.0:{port}", f"[::]:{port}", f"{NAMED}:{port}", "other"),
        *(
            f"127.0.0.1:{port}@evil.example",
            f"evil.example#127.0.0.1:{port}",
            f"127.0.0.1:0{port}0",
        ),
        *(f"127.0.0.1:{port}, evil.example", "", ":", "[", "[::1", "a" * 5000),
    ]


def known(port: int) -> list[str]:
    return [
        *(f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"),
        *(NAMED, f"{NAMED}:443", NAMED.upper(), "other:8443"),
    ]


@pytest.mark.parametrize(
    "path", ["/", "/tuning", "/_stcore/host-config", "/static/x.js", "/media/x"]
)
def test_a_strange_name_is_refused_whatever_it_asks_for(path: str, dashboard: Served) -> None:
    for host in strange_hosts(dashboard.port):
        status, _, body = dashboard.get(path, host)
        assert status in (400, 403), host
        if status == 403:
            assert b"HEADWAY_HOSTS" in body
            assert len(body) < 400
    assert dashboard.get(path, f"127.0.0.1:{dashboard.port}")[0] in (200, 404)


def test_no_name_and_two_names_are_refused(dashboard: Served) -> None:
    mine = f"127.0.0.1:{dashboard.port}"
    assert dashboard.get("/", None)[0] in (400, 403)
    assert dashboard.get("/", mine, ("Host", "evil.example"))[0] in (400, 403)


def test_known_names_are_served_and_nobody_may_frame_them(dashboard: Served) -> None:
    for host in known(dashboard.port):
        status, headers, _ = dashboard.get("/", host)
        assert status == 200
        assert headers["content-security-policy"] == "frame-ancestors 'none'"
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"


def test_what_is_refused_or_missing_may_not_be_framed_either(dashboard: Served) -> None:
    for host in ("evil.example", f"127.0.0.1:{dashboard.port}"):
        _, headers, _ = dashboard.get("/media/none", host)
        assert headers["content-security-policy"] == "frame-ancestors 'none'"


def test_a_probe_asks_by_any_name_and_learns_nothing(dashboard: Served) -> None:
    assert dashboard.get("/_stcore/health", "10.0.0.7:8501")[2] == b"ok"
    assert dashboard.get("/x/_stcore/health", "10.0.0.7:8501")[0] == 403


def test_only_a_page_of_the_same_name_and_port_opens_a_websocket(dashboard: Served) -> None:
    port = dashboard.port
    for host in known(port):
        scheme = "https" if host.lower().startswith((NAMED, "other")) else "http"
        assert dashboard.opens_websocket(host, f"{scheme}://{host}")
    mine = f"127.0.0.1:{port}"
    for origin in (
        *(None, "", "null", "http://evil.example", "file://", f"http://127.0.0.1:{port + 1}"),
        *("http://127.0.0.1:3000", "http://127.0.0.1", f"http://localhost:{port}", mine),
        *(f"http://{mine}/", f"http://{mine}.evil.example", f"http://{mine}@evil.example"),
        *(f"http://evil.example:{port}", f"ws://{mine}", f"https://{NAMED}", f"http://{mine} x"),
    ):
        assert not dashboard.opens_websocket(mine, origin), origin
    for host in strange_hosts(port):
        assert not dashboard.opens_websocket(host, f"http://{host}"), host


def test_a_strange_page_is_refused_over_http_too(dashboard: Served) -> None:
    mine = f"127.0.0.1:{dashboard.port}"
    answer = dashboard.get("/_stcore/host-config", mine, ("Origin", "http://127.0.0.1:3000"))
    assert answer[0] == 403
    assert "access-control-allow-origin" not in answer[1]
    assert dashboard.get("/_stcore/host-config", mine, ("Origin", f"http://{mine}"))[0] == 200


def test_the_log_says_why_in_a_line_of_its_own(dashboard: Served) -> None:
    dashboard.get("/", "evil.example\x85refused: forged")
    dashboard.get("/", "in.the.log")
    until(lambda: any("'in.the.log'" in line for line in list(dashboard.log)))
    assert not [line for line in list(dashboard.log) if line.startswith("refused: forged")]


def test_names_that_are_not_understood_leave_those_of_this_machine(tmp_path: Path) -> None:
    with served(tmp_path, HEADWAY_HOSTS="https://headway.example.org/") as it:
        assert it.get("/", f"127.0.0.1:{it.port}")[0] == 200
        assert it.get("/", NAMED)[0] == 403
    assert [line for line in it.log if "HEADWAY_HOSTS" in line and "without https://" in line]


class TestHosts:
    def test_who_sits_at_this_machine(self) -> None:
        def here(host: str, origin: str) -> bool:
            return is_this_machine({"host": host, "origin": origin}, 8501)

        assert here("127.0.0.1:8501", "http://127.0.0.1:8501")
        assert here("localhost:8501", "http://localhost:8501")
        assert here("[::1]:8501", "http://[::1]:8501")
        for host, origin in (
            ("127.0.0.1:8501", ""),
            ("127.0.0.1:8501", "http://127.0.0.1:3000"),
            ("127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("headway.example.org", "https://headway.example.org"),
            ("evil.example:8501", "http://evil.example:8501"),
            ("", "http://127.0.0.1:8501"),
        ):
            assert not here(host, origin)
        assert not is_this_machine({}, 8501)

    def test_bound_to_all_addresses_it_is_known_as_the_one_that_was_called(self) -> None:
        hosts = known_hosts(frozenset({Host("headway.example.org", 443)}), "0.0.0.0")
        for host in ("10.0.0.7:8501", "localhost:9999", "127.0.0.1:8501", "headway.example.org"):
            found = parse_host(host)
            assert found is not None
            assert (found, "10.0.0.7", 8501) in hosts
        for host in ("10.0.0.8:8501", "10.0.0.7", "evil.example:8501", "headway.example.org:8501"):
            found = parse_host(host)
            assert found is not None
            assert (found, "10.0.0.7", 8501) not in hosts
        assert (Host("10.0.0.7", 8501), "::ffff:10.0.0.7", 8501) in hosts

    @pytest.mark.parametrize(
        "text", ["", "a b", "a:0", "a:65536", "a:x", "http://a", "a/b", "[1.2.3.4:5", "[zz]", "ä"]
    )
    def test_what_is_no_host(self, text: str) -> None:
        assert parse_host(text) is None

    def test_ports_left_out_are_those_of_the_scheme(self) -> None:
        assert same_origin("https://a", Host("a", 443)) == "https"
        assert same_origin("http://a", Host("a", 443)) is None
        assert same_origin("HTTPS://A:443", Host("a")) == "https"

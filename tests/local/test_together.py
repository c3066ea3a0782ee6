"""Services that start and stop together, with small ones in place of the predictor."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from predictor.core import restarts
from predictor.local.redis import find_redis_server, redis_service
from predictor.local.together import run_together
from tests.local.services import (
    MORTAL,
    NEVER_READY,
    READY,
    STUBBORN,
    Killer,
    Terminal,
    free_port,
    service,
)


async def test_ctrl_c_stops_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    assert await run_together([[service("one", READY)], [service("two", READY)]], "welcome") == 0
    assert terminal.lines[-2:] == ["welcome", "stopping"]


async def test_a_second_ctrl_c_kills_what_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    Terminal(monkeypatch, presses=2)
    async with asyncio.timeout(20):
        assert await run_together([[service("stubborn", STUBBORN)]], "welcome") == 0


async def test_when_one_ends_the_rest_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    services = [service("waiting", NEVER_READY), service("broken", "raise SystemExit(3)")]
    assert await run_together([services], "welcome") == 3
    assert "broken ended with exit code 3" in terminal.lines[-1]


async def test_what_is_not_needed_may_end_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal(monkeypatch)
    extra = service("extra", "raise SystemExit(3)", needed=False)
    assert await run_together([[service("one", READY), extra]], "welcome") == 0
    assert [line for line in terminal.lines if "extra ended with exit code 3" in line]
    assert terminal.lines[-2:] == ["welcome", "stopping"]


async def test_what_is_killed_is_started_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    mortal = service("mortal", MORTAL, str(pid))
    killer = Killer(monkeypatch, pid, last="mortal is ready again")
    assert await run_together([[mortal], [service("other", READY)]], "welcome") == 0
    assert killer.lines[-4:] == [
        "mortal ended by SIGKILL; starting it again",
        "starting mortal",
        "mortal is ready again",
        "stopping",
    ]


TOO_OFTEN = "mortal ended by SIGKILL, too often in a minute; its log is above"


@pytest.mark.parametrize(
    ("beside", "needed", "code", "said"),
    [
        ("nothing of the kind", True, 1, TOO_OFTEN),
        ("another of the kind", True, 0, "stopping"),
        ("nothing of the kind", False, 0, "stopping"),
    ],
)
async def test_what_keeps_dying_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    beside: str,
    needed: bool,
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(restarts, "FIRST_DELAY_S", 0.001)
    pid = tmp_path / "pid"
    stages = [
        [service("mortal", MORTAL, str(pid), needed=needed)],
        [service("other", READY)],
    ]
    if beside == "another of the kind":
        stages = [[*stages[0], *stages[1]]]
    killer = Killer(monkeypatch, pid, last="The rest goes on without it")
    assert await run_together(stages, "welcome") == code
    assert killer.lines.count("mortal is ready again") == restarts.MOST_DEATHS
    assert killer.lines[-1] == said
    assert any(line.startswith(TOO_OFTEN) for line in killer.lines)


async def test_a_log_in_a_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    terminal = Terminal(monkeypatch)
    log = tmp_path / "its.log"
    quiet = replace(service("quiet", "raise SystemExit('it is broken')"), log=log)
    assert await run_together([[quiet]], "welcome") == 1
    assert terminal.lines[-1] == f"quiet ended with exit code 1; its log is {log}"
    assert log.read_text() == "it is broken\n"


async def test_what_is_never_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    assert (
        await run_together([[service("waiting", NEVER_READY)]], "welcome", ready_within_s=0.1) == 1
    )
    assert "not ready within 0.1 s" in terminal.lines[-1]


async def test_redis_is_ready_keeps_its_data_and_stops_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = find_redis_server()
    assert program
    redis = redis_service(program, tmp_path / "redis", free_port())
    port = redis.ready_url.split(":")[2]
    # The service behind it keeps one thing there when it is asked to stop.
    tell = (
        "import signal, socket\n"
        "def stop(*_):\n"
        f"    with socket.create_connection(('127.0.0.1', {port})) as to:\n"
        "        to.sendall(b'SET last word\\r\\n')\n"
        "        to.recv(5)\n"
        "    raise SystemExit\n"
        "signal.signal(signal.SIGTERM, stop)\n"
    )
    Terminal(monkeypatch)
    assert await run_together([[redis], [service("client", tell + READY)]], "welcome") == 0
    logs = await asyncio.to_thread(lambda: [*tmp_path.rglob("appendonly*.aof")])
    assert any(b"word" in log.read_bytes() for log in logs)

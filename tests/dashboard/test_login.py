"""A login that is set up wrong lets nobody edit, and a sentence says what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.login import read_login
from tests.dashboard.fakes import FakeParts
from tests.dashboard.serving import served
from tests.dashboard.test_pages import assert_sound, sentences

WHOLE = """
[auth]
redirect_uri = "{url}/oauth2callback"
cookie_secret = "a long random string"
client_id = "headway"
client_secret = "for this test alone"
server_metadata_url = "http://127.0.0.1:1/openid"
"""
WRONG = {
    "": "is empty",
    "# [auth]\n": "is empty",
    "[auth]": "[auth] is empty",
    "[auth": "is no TOML",
    "[auth]\nclient_id = hunter2": "is no TOML",
    "auth = ''": "[auth] is empty",
    "auth = 'yes'": "[auth] is empty",
    "auth = []": "[auth] is empty",
    "[[auth]]\nclient_id = 'a'": "[auth] is empty",
    "[Auth]\nclient_id = 'a'": "must be written [auth]",
    "[auth]\ncookie_secret = 'a'": "[auth] has no redirect_uri, client_id, client_secret",
    WHOLE.replace('"a long random string"', '""'): "[auth] has no cookie_secret",
    WHOLE.replace('"headway"', "7"): "[auth] has no client_id",
    "[auth.google]\nclient_id = 'a'": "[auth] has no redirect_uri",
}


def secrets(tmp_path: Path, text: str) -> str:
    path = tmp_path / "secrets.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(("text", "what"), WRONG.items())
def test_what_is_wrong_is_said(text: str, what: str, tmp_path: Path) -> None:
    login = read_login([str(tmp_path / "none.toml"), secrets(tmp_path, text)])
    assert login.is_set_up
    assert what in login.problem
    assert "Nobody can edit" in login.problem
    assert "hunter2" not in login.problem


def test_a_whole_login_and_none_are_no_problem(tmp_path: Path) -> None:
    assert read_login([secrets(tmp_path, WHOLE)]).is_set_up
    assert not read_login([secrets(tmp_path, WHOLE)]).problem
    assert not read_login([secrets(tmp_path, "[database]\nname = 'a'")]).is_set_up
    assert not read_login([str(tmp_path / "none.toml"), str(tmp_path / "no" / "x.toml")]).is_set_up


def test_what_is_there_and_no_file_is_wrong(tmp_path: Path) -> None:
    folder, link, bytes_ = (tmp_path / f"{name}.toml" for name in ("folder", "link", "bytes"))
    folder.mkdir()
    link.symlink_to(tmp_path / "nowhere")
    bytes_.write_bytes(b"\xff\xfe[auth]")
    for path in (folder, link, bytes_):
        assert "Nobody can edit" in read_login([str(path)]).problem


def test_secrets_of_a_mounted_folder(tmp_path: Path) -> None:
    (tmp_path / "auth").mkdir()
    for name in ("redirect_uri", "cookie_secret", "client_id", "client_secret"):
        (tmp_path / "auth" / name).write_text("a\n")
    assert "has no server_metadata_url" in read_login([str(tmp_path)]).problem
    (tmp_path / "auth" / "server_metadata_url").write_text("a")
    assert not read_login([str(tmp_path)]).problem


def test_the_page_says_it_and_nothing_can_be_applied(
    open_page: Callable[[str], AppTest], fakes: FakeParts
) -> None:
    fakes.login_problem, fakes.name = "The login is not set up right: [auth] is empty.", None
    app = open_page("tuning")
    assert_sound(app)
    assert fakes.login_problem in sentences(app)
    assert app.button(key="tuning-apply").disabled
    assert "tuning-login" not in {each.key for each in app.button}


@pytest.mark.parametrize("text", ["[auth]", "[auth", ""])
def test_the_log_of_the_server_says_it_at_its_start(text: str, tmp_path: Path) -> None:
    with served(tmp_path, text) as it:
        assert it.get("/", f"127.0.0.1:{it.port}")[0] == 200
    assert [line for line in it.log if "is not set up right" in line]

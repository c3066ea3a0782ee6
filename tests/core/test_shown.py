"""What may be shown: of others' text little, of secrets nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.core.shown import MOST_SHOWN, shown, without_secrets

ADDRESSES = {
    "http://reader:s3cret@prometheus:9090/path": "http://***@prometheus:9090/path",
    "https://s3cret@host": "https://***@host",
    "http://reader:s3@c/r?e#t@host:1/": "http://***@host:1/",
    "redis://:s3cret@127.0.0.1:6379/0": "redis://***@127.0.0.1:6379/0",
    "rediss://default:s3cret@host/0?ssl_cert_reqs=none": "rediss://***@host/0?***",
    "unix:///run/redis.sock?password=s3cret": "unix:///run/redis.sock?***",
    "http://host/api?token=s3cret#part": "http://host/api?***",
    "http://host/api#s3cret": "http://host/api?***",
    "http://127.0.0.1:9090": "http://127.0.0.1:9090",
    "HTTP://reader:s3cret@host": "HTTP://***@host",
}


@pytest.mark.parametrize(("address", "hidden"), ADDRESSES.items())
def test_an_address_without_its_secrets(address: str, hidden: str) -> None:
    assert without_secrets(address) == hidden
    said = f'Get "{address}": refused; see {address} and mail a@b.c?'
    assert without_secrets(said) == f'Get "{hidden}": refused; see {hidden} and mail a@b.c?'


@given(
    password=st.text(
        st.characters(
            codec="ascii",
            exclude_characters=" \t\r\n\"'<>\x0b\x0c\x1c\x1d\x1e\x1f\x85",
            min_codepoint=33,
        ),
        min_size=6,
    )
)
def test_no_password_is_left(password: str) -> None:
    assert password not in without_secrets(f"http://u:{password}@h/p").replace("***", "")


def test_what_is_shown_is_short_and_printable() -> None:
    assert shown("name") == "'name'"
    assert shown("a\nb\x07") == r"'a\nb\x07'"
    assert len(shown("\x07" * 10_000_000)) < 5 * MOST_SHOWN

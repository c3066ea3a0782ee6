"""A real Chromium, driven by playwright. `make test-browser` runs what is here.

Nothing sleeps and no time is asserted: playwright waits for what is expected, up to a limit that
only a hang reaches.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.stack import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LIMIT_MS = 60_000
SCREEN = (1280, 800)

expect.set_options(timeout=LIMIT_MS)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--screenshots",
        type=Path,
        default=None,
        help="a folder for the README's pictures, of a load that is given minutes for them",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [
        package
        for package, program in (("chromium", CHROMIUM), ("prometheus", shutil.which("prometheus")))
        if program is None
    ]
    for item in items:
        if "browser" in item.keywords and missing:
            why = f"not here: apt-get install {' '.join(missing)}"
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Root, as a CI is, may not use Chromium's sandbox; it opens nothing but our own pages.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with screen(browser) as made:
        yield made


def screen(browser: Browser, scheme: str = "light") -> BrowserContext:
    width, height = SCREEN
    made = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        timezone_id="UTC",
    )
    made.set_default_timeout(LIMIT_MS)
    return made


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture(scope="session")
def pictures(request: pytest.FixtureRequest) -> Path:
    """Where screenshots go: what was seen, also where a test fails later."""
    folder: Path = request.config.getoption("--screenshots") or ROOT / "run" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def minutes(request: pytest.FixtureRequest) -> int:
    """How long there is load before anything is looked at: pictures are to be full of it."""
    return 0 if request.config.getoption("--screenshots") is None else 5

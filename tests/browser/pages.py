"""The dashboard as a person in front of a browser has it."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from playwright.sync_api import Locator, Page, Request, expect

LIGHT_WEIGHT_B = 250_000
_IDLE = '[data-testid="stApp"][data-test-script-state="notRunning"]'
_AT_REST = f"""() => document.querySelector('{_IDLE}') !== null
    && document.querySelector('[data-stale="true"]') === null"""
# What Plotly has drawn for a title: the values of its first line, and the texts beside lines.
_DRAWN = """title => {
    const plot = [...document.querySelectorAll('.js-plotly-plot')]
        .find(each => each.layout?.title?.text === title);
    if (!plot || !plot.calcdata) return null;
    return {
        values: plot.calcdata[0].map(point => point.y ?? null),
        marks: (plot.layout.annotations ?? []).map(each => each.text),
    };
}"""


class Dashboard:
    """One tab, which also notes whatever a page asks of anyone else, and errors of scripts."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url
        self.strangers: list[str] = []
        self.script_errors: list[str] = []
        page.on("request", self._note)
        page.on("pageerror", lambda error: self.script_errors.append(str(error)))

    def _note(self, request: Request) -> None:
        asked = urlsplit(request.url)
        if asked.hostname not in (urlsplit(self._url).hostname, None):
            self.strangers.append(request.url)

    def open(self, name: str, refresh: str = "every 5 s") -> None:
        where = "" if name == "overview" else name
        chosen = urlencode({"range": "5 min", "refresh": refresh})
        self.page.goto(f"{self._url}/{where}?{chosen}")
        self.settled()

    def settled(self) -> None:
        """Drawn to its end, once."""
        self.page.wait_for_selector(_IDLE)
        expect(self.page.get_by_test_id("stSkeleton")).to_have_count(0)

    def at_rest(self) -> None:
        """Nothing is left of what was drawn before."""
        self.page.wait_for_function(_AT_REST)

    def go_to(self, title: str) -> None:
        """By the navigation, so that what is in the session stays."""
        top = self.page.get_by_test_id("stTopNavLink")  # the verdict links to pages, too
        link = top.filter(has=self.page.get_by_text(title, exact=True))
        link.click()
        expect(link).to_have_attribute("aria-current", "page")
        self.settled()

    def field(self, label: str) -> Locator:
        """The first of that label that can be typed into."""
        return self.page.get_by_role("textbox", name=label).first

    def in_force(self, label: str) -> Locator:
        """What stands below that field."""
        return self.field(label).locator("xpath=following::p[starts-with(., 'In force')][1]")

    @property
    def plots(self) -> Locator:
        return self.page.locator(".js-plotly-plot")

    def assert_sound(self) -> None:
        """No stack trace, nothing that a guard had to hide, nobody else asked."""
        expect(self.page.get_by_test_id("stException")).to_have_count(0)
        text = self.page.inner_text("body")
        assert not re.search(r"Traceback|could not be drawn|Error:|\bnan\b", text), text
        assert self.strangers == []
        assert self.script_errors == []

    def drawn(self, title: str) -> dict[str, Any]:
        found: dict[str, Any] = self.page.evaluate(_DRAWN, title)
        assert found is not None, f"no plot {title!r}"
        return found

    def wait_for_last(self, title: str, condition: str) -> None:
        """Until the newest value of a plot's first line is so; `condition` is of `last`."""
        script = f"""() => {{
            const found = ({_DRAWN})({json.dumps(title)});
            const known = (found?.values ?? []).filter(value => Number.isFinite(value));
            const last = known[known.length - 1];
            return known.length > 0 && ({condition});
        }}"""
        self.page.wait_for_function(script)

    def picture(self, path: Path) -> None:
        """Of what is on the screen, when nothing of it is grey for being drawn anew."""
        self.page.mouse.move(0, 0)  # nothing hovers
        self.at_rest()
        self.page.screenshot(path=path, animations="disabled")
        assert path.stat().st_size < LIGHT_WEIGHT_B

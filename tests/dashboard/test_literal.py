"""Other people's words stay letters: in Markdown, in plots, and on every page."""

import html
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from dashboard.ports import (
    ALL,
    BatchShape,
    Filter,
    HistoryEntry,
    PoolUse,
    Price,
    Replica,
    ResultsFound,
    Series,
    Split,
    StageBreakdown,
    TierNow,
    Token,
    Traffic,
    Window,
)
from dashboard.views.literal import escaped, one_line, plot_text
from predictor.core.parameters import DEFAULT_DOCUMENT, parse_plain
from tests.dashboard.fakes import FakeMetrics, FakeParts, FakeStore, down, results
from tests.dashboard.nasty import NASTY, REPLACED, drawn

Open = Callable[[str], AppTest]
WORDS = "*w* :material/home: :red[r] $a$ <b>&amp; http://evil.example a -> b `c` :streamlit:"
PAGES = ("overview", "latency", "batching", "cost", "tuning", "load_tests")


def assert_literal(markdown: str, words: str) -> None:
    letters, looked_into = drawn(markdown)
    assert letters == one_line(words)
    assert_untouched(markdown, looked_into)


def assert_untouched(markdown: str, looked_into: Sequence[str]) -> None:
    assert ":material/" not in markdown  # Streamlit rewrites it in the source, code or not
    for text in looked_into:
        assert not [text for replaced in REPLACED if re.search(replaced, text)]


@pytest.mark.parametrize("words", NASTY)
def test_markdown_shows_the_letters(words: str) -> None:
    assert_literal(escaped(words), words)


@pytest.mark.parametrize("words", NASTY)
def test_also_within_a_sentence_of_ours(words: str) -> None:
    letters, _ = drawn(f"**{escaped('Model ' + words)}**".strip("*"))
    assert letters == f"Model {one_line(words)}"


@given(st.text(alphabet="ab1 :*_`[]()<>$~|#&-+=.@/\\{}!^\n\twhtps", max_size=40))
def test_whatever_the_letters(words: str) -> None:
    letters, _ = drawn(escaped(words))
    assert letters == one_line(words)


def test_what_cannot_be_seen_shows() -> None:
    assert one_line("a\nb\tc\x1b[31m\u202egnp.exe\u200b") == "a b c\ufffd[31m\ufffdgnp.exe\ufffd"


@pytest.mark.parametrize("words", NASTY)
def test_a_plot_shows_the_letters(words: str) -> None:
    shown = plot_text(words)
    assert "<" not in shown
    assert html.unescape(shown) == one_line(words)


class NastyMetrics(FakeMetrics):
    """Every name that Prometheus could tell is WORDS."""

    def models(self) -> Sequence[str]:
        return [WORDS]

    def tiers(self, window: Window, where: Filter = ALL) -> Sequence[TierNow]:
        found = super().tiers(window, where)
        return [replace(each, model=WORDS, tier=WORDS + each.tier) for each in found]

    def traffic(self, window: Window, where: Filter = ALL) -> Traffic:
        found = super().traffic(window, where)
        return Traffic(
            offered=named(found.offered),
            good=named(found.good),
            late=named(found.late),
            refused=named(found.refused),
            failed=named(found.failed),
            given_up=named(found.given_up),
            queue_depth=named(found.queue_depth),
        )

    def latency(
        self, window: Window, quantile: float, where: Filter = ALL, by: Split = Split.TIER
    ) -> Sequence[Series]:
        return named(super().latency(window, quantile, where, by))

    def token_times(
        self,
        window: Window,
        quantile: float,
        token: Token,
        where: Filter = ALL,
        by: Split = Split.TIER,
    ) -> Sequence[Series]:
        return named(super().token_times(window, quantile, token, where, by))

    def stages(
        self, window: Window, where: Filter = ALL, by: Split = Split.TIER
    ) -> Sequence[StageBreakdown]:
        return [replace(each, group=WORDS) for each in super().stages(window, where, by)]

    def batches(self, window: Window, where: Filter = ALL) -> BatchShape:
        found = super().batches(window, where)
        return replace(
            found,
            mean_rows=named(found.mean_rows),
            mean_tokens=named(found.mean_tokens),
            reasons=named(found.reasons),
            fits=tuple(replace(each, model=WORDS) for each in found.fits),
        )

    def pools(self, window: Window, where: Filter = ALL) -> Sequence[PoolUse]:
        return [
            replace(
                each,
                instance_types=(WORDS,),
                tier_completed={WORDS: 1.0},
                tier_device_s={WORDS: 1.0},
            )
            for each in super().pools(window, where)
        ]

    def replicas(self) -> Sequence[Replica]:
        return [replace(each, instance=WORDS, generation=1) for each in super().replicas()]


def named(series: Sequence[Series]) -> tuple[Series, ...]:
    return tuple(replace(each, name=f"{WORDS}/{each.name}") for each in series)


@pytest.fixture
def nasty(fakes: FakeParts) -> FakeParts:
    fakes.metrics = NastyMetrics(generates=True)
    tiers = {f"{WORDS}{name}": tier for name, tier in DEFAULT_DOCUMENT["tiers"].items()}
    parameters = parse_plain({"generation": 2, "models": {WORDS: {}}, "tiers": tiers})
    document = msgspec.json.encode(parameters).decode()
    entry = HistoryEntry(2, fakes.now_s, f"{WORDS}\n1. x", f"{WORDS}\n# x", (), document, document)
    fakes.store = FakeStore(parameters=parameters, entries=[entry], place=f"/etc/{WORDS}")
    fakes.price_table = tuple(Price(each.pool, 1.0, WORDS) for each in fakes.price_table)
    found = results()
    runs = tuple(replace(run, name=f"{WORDS}{at}") for at, run in enumerate(found.runs))
    sweeps = tuple(replace(each, name=WORDS) for each in found.sweeps)
    fakes.results.found = ResultsFound(runs, sweeps, (f"{WORDS} cannot be read: {WORDS}",))
    fakes.name = WORDS
    return fakes


def markdowns(app: AppTest) -> Iterator[str]:
    """Whatever of a page Streamlit reads as Markdown."""
    texts = ("markdown", "caption", "info", "warning", "error", "success", "subheader")
    labelled = ("metric", "selectbox", "text_input", "button", "multiselect", "number_input")
    for kind, parts in ((texts, ("value",)), (labelled, ("label", "help"))):
        for each in (element for name in kind for element in app.get(name)):
            yield from filter(None, (getattr(each, part, "") for part in parts))


@pytest.mark.parametrize("page", PAGES)
def test_no_page_takes_words_for_markup(page: str, nasty: FakeParts, open_page: Open) -> None:
    app = open_page(page)
    assert not app.exception
    seen = 0
    for markdown in markdowns(app):
        inner = markdown.removeprefix("**").removesuffix("**")
        if "evil" not in inner:
            continue
        letters, looked_into = drawn(inner)
        seen += letters.count(WORDS)
        assert_untouched(inner, looked_into)
        assert letters.count("evil") == letters.count(WORDS)
    if page in ("overview", "cost", "tuning", "load_tests"):
        assert seen


@pytest.mark.parametrize("page", PAGES)
def test_no_plot_takes_words_for_markup(page: str, nasty: FakeParts, open_page: Open) -> None:
    texts = [
        text
        for chart in open_page(page).get("plotly_chart")
        for text in strings(json.loads(chart.proto.spec))
        if "evil" in text
    ]
    assert texts or page == "tuning"
    for text in texts:
        assert "<" not in text.replace("<br>", "")  # which breaks a long name that stands there
        assert "&amp;amp; http://" in text.replace("<br>", " ")


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            if key not in ("template", "hovertemplate"):
                yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)


def test_an_error_of_a_source_is_shown_as_it_is(open_page: Open, fakes: FakeParts) -> None:
    trouble = down()
    trouble.args = (WORDS,)
    fakes.metrics.trouble = trouble
    app = open_page("overview")
    (shown,) = app.warning
    assert drawn(shown.value)[0] == WORDS

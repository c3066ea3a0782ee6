"""Pages are counted whatever is done with them, and a prompt finds what it shares with another."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from predictor.policy.pages import Pages, chained_hashes

PAGE_BYTES = 2


def prompt(text: str) -> list[bytes]:
    return chained_hashes(text.encode(), PAGE_BYTES)


def compute(pages: Pages, text: str) -> list[int]:
    """A row's pages, computed and named."""
    names = prompt(text)
    held = pages.share(names[: pages.found(names, len(names))])
    fresh = pages.take(len(names) - len(held))
    assert fresh is not None
    held += fresh
    for page, name in zip(held, names, strict=True):
        pages.name(page, name)
    return held


def test_names_depend_on_all_that_comes_before() -> None:
    assert prompt("aabb")[0] == prompt("aacc")[0]
    assert prompt("aabb")[1] != prompt("ccbb")[1]
    assert prompt("aabb") + prompt("b") == prompt("aabbb")  # a page that is not full has none
    assert chained_hashes(b"bb", PAGE_BYTES, after=prompt("aa")[0]) == prompt("aabb")[1:]


def test_a_prompt_shares_what_it_has_in_common() -> None:
    pages = Pages(8, PAGE_BYTES)
    first = compute(pages, "aabbcc")
    second = compute(pages, "aabbdd")
    assert first[:2] == second[:2]
    assert first[2] != second[2]
    assert pages.used == 4
    pages.release(first)
    assert (pages.used, pages.cached) == (3, 1)
    pages.release(second)
    assert (pages.used, pages.cached, pages.available) == (0, 4, 8)


def test_the_least_recently_used_goes_first_and_leaves_before_their_parents() -> None:
    pages = Pages(5, PAGE_BYTES)
    pages.release(compute(pages, "aabb"))
    pages.release(compute(pages, "ccdd"))
    pages.release(compute(pages, "aa"))  # used again
    assert pages.take(2) is not None  # the free one, and one that was cached
    assert pages.found(prompt("aabb"), 2) == 1  # its leaf is gone
    assert pages.found(prompt("ccdd"), 2) == 2
    assert pages.take(2) is not None
    assert pages.found(prompt("ccdd"), 2) == 0
    assert pages.found(prompt("aa"), 1) == 1


def test_all_or_nothing_is_taken() -> None:
    pages = Pages(2, PAGE_BYTES)
    assert pages.take(3) is None
    assert pages.available == 2
    assert pages.take(2) is not None
    assert pages.take_one() is None


def test_what_is_forgotten_is_found_no_more_and_comes_back() -> None:
    pages = Pages(4, PAGE_BYTES)
    first = compute(pages, "aabb")
    second = compute(pages, "aacc")
    pages.forget(first)
    pages.release(first)
    assert (pages.found(prompt("aabb"), 2), pages.found(prompt("aacc"), 2)) == (0, 0)
    assert (pages.used, pages.cached, pages.available) == (2, 0, 2)
    pages.release(second)
    assert (pages.used, pages.cached, pages.available) == (0, 1, 4)


def test_without_a_cache_nothing_is_found() -> None:
    pages = Pages(2, PAGE_BYTES, caching=False)
    pages.release(compute(pages, "aa"))
    assert (pages.found(prompt("aa"), 1), pages.cached) == (0, 0)


class PagesMachine(RuleBasedStateMachine):
    @initialize(count=st.integers(1, 12), caching=st.booleans())
    def start(self, count: int, caching: bool) -> None:
        self.pages = Pages(count, PAGE_BYTES, caching=caching)
        self.rows: list[tuple[list[bytes], list[int]]] = []

    @rule(text=st.text("ab", min_size=1, max_size=12), named=st.booleans())
    def begin(self, text: str, named: bool) -> None:
        names = prompt(text)
        before = self.pages.available
        held = self.pages.share(names[: self.pages.found(names, len(names))])
        fresh = self.pages.take(len(names) - len(held))
        if fresh is None:
            self.pages.release(held)
            assert self.pages.available == before
            return
        held += fresh
        for page, name in zip(held, names, strict=True) if named else ():
            self.pages.name(page, name)
        self.rows.append((names, held))

    @precondition(lambda self: self.rows)
    @rule()
    def grow(self) -> None:
        page = self.pages.take_one()
        if page is not None:
            self.rows[-1][1].append(page)

    @rule(text=st.text("ab", min_size=1, max_size=12), before=st.integers(0, 6))
    def look(self, text: str, before: int) -> None:
        """What is found is what rows hold and what is cached, whatever was found before."""
        pages, names = self.pages, prompt(text)
        found = pages.found(names, len(names))
        held = pages.found_held(names, len(names))
        assert 0 <= held <= found <= len(names)
        again = pages.share(names[:found])
        assert pages.found_held(names, len(names)) == found
        pages.release(again)
        before = min(before, found)
        assert pages.still_found(names, len(names), before) == found

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        """A row whose pages nobody may find any more."""
        names, held = self.rows.pop(data.draw(st.integers(0, len(self.rows) - 1)))
        self.pages.forget(held)
        found = self.pages.share(names[: self.pages.found(names, len(names))])
        assert not set(found) & set(held)
        self.pages.release(found)
        self.pages.release(held)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        _, held = self.rows.pop(data.draw(st.integers(0, len(self.rows) - 1)))
        self.pages.release(held)

    @invariant()
    def every_page_is_somewhere(self) -> None:
        pages = self.pages
        held = {page for _, pages_of in self.rows for page in pages_of}
        assert pages.used == len(held)
        assert pages.used + pages.available == pages.count
        assert 0 <= pages.cached <= pages.available
        names: dict[int, bytes] = {}
        for row_names, row_pages in self.rows:
            for name, page in zip(row_names, row_pages, strict=False):
                assert names.setdefault(page, name) == name, "two prompts in one page"


PagesMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPages = PagesMachine.TestCase

"""The pages of keys and values on a device, as a budget: which page is whose.

A page holds the keys and values of `page_tokens` positions of a row. A page that is full and whose
tokens are known has a name, the hash of its tokens and of all before them. So a row whose prompt
begins like that of an earlier one finds its first pages there, computed already (a prefix cache),
and several rows may hold one page; it is counted how many do.

A named page that nobody holds stays as it is until its room is needed. The one that was used least
recently goes first, and of a row's pages the last: a page without those before it is of no use.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

HASH_BYTES = 16


def chained_hashes(tokens: bytes, page_bytes: int, after: bytes = b"") -> list[bytes]:
    """The name of each full page of `tokens`, coded in `page_bytes` a page.

    `after` is the name of the page before them.
    """
    hashes = []
    for end in range(page_bytes, len(tokens) + 1, page_bytes):
        after = blake2b(after + tokens[end - page_bytes : end], digest_size=HASH_BYTES).digest()
        hashes.append(after)
    return hashes


class Pages:
    """Counts the pages of one model. Each operation takes O(1) a page."""

    def __init__(self, count: int, page_tokens: int, *, caching: bool = True) -> None:
        self.count = count
        self.page_tokens = page_tokens
        self._caching = caching
        self._free = list(range(count - 1, -1, -1))  # those with low numbers go first
        self._holders = [0] * count
        self._names: dict[int, bytes] = {}
        self._named: dict[bytes, int] = {}
        self._unheld: dict[int, None] = {}  # named ones, from the least to the most recently used

    @property
    def available(self) -> int:
        """Pages that can be taken, at the cost of what is cached in them if need be."""
        return len(self._free) + len(self._unheld)

    @property
    def cached(self) -> int:
        """Pages that nobody holds, but that a prompt may find again."""
        return len(self._unheld)

    @property
    def used(self) -> int:
        """Pages that rows hold."""
        return self.count - self.available

    def needed(self, positions: int) -> int:
        """How many pages hold so many positions."""
        return -(-positions // self.page_tokens)

    def found(self, hashes: Sequence[bytes], most: int) -> int:
        """How many of the first `most` pages with these names are there."""
        named = self._named
        count = 0
        for name in hashes[:most]:
            if name not in named:
                break
            count += 1
        return count

    def found_held(self, hashes: Sequence[bytes], most: int) -> int:
        """As `found`, of pages that rows hold: to share them takes nothing of what is available."""
        named, holders = self._named, self._holders
        return sum(holders[named[name]] > 0 for name in hashes[: self.found(hashes, most)])

    def still_found(self, hashes: Sequence[bytes], most: int, before: int) -> int:
        """As `found`, where it gave `before` a while ago, without looking at all pages again.

        Good for an estimate: a page at the beginning may have gone before those behind it.
        """
        named = self._named
        if before and hashes[before - 1] not in named:
            return self.found(hashes, before - 1)
        return before + self.found(hashes[before:most], most)

    def share(self, hashes: Iterable[bytes]) -> list[int]:
        """Hold the pages with these names, which are there."""
        pages = []
        for name in hashes:
            page = self._named[name]
            if not self._holders[page]:
                del self._unheld[page]
            self._holders[page] += 1
            pages.append(page)
        return pages

    def take(self, count: int) -> list[int] | None:
        """Hold `count` pages that nobody else holds; None where there are not as many."""
        if count > self.available:
            return None
        pages = []
        for _ in range(count):
            page = self._free.pop() if self._free else self._forget_oldest()
            self._holders[page] = 1
            pages.append(page)
        return pages

    def take_one(self) -> int | None:
        """As `take`, for rows that decode: thousands of them may need a page in a second."""
        if self._free:
            page = self._free.pop()
        elif self._unheld:
            page = self._forget_oldest()
        else:
            return None
        self._holders[page] = 1
        return page

    def name(self, page: int, name: bytes) -> None:
        """Let rows with the same prompt find this page, whose positions are on the device, or
        will be before any later step. Where another page has that name, it keeps it."""
        if self._caching and name not in self._named and page not in self._names:
            self._names[page] = name
            self._named[name] = page

    def forget(self, pages: Iterable[int]) -> None:
        """Let no row find these pages, which are held, any more."""
        for page in pages:
            name = self._names.pop(page, None)
            if name is not None:
                del self._named[name]

    def release(self, pages: Sequence[int]) -> None:
        """Hold these pages, those of one row in order, no longer."""
        for page in reversed(pages):
            self._holders[page] -= 1
            if self._holders[page]:
                continue
            if page in self._names:
                self._unheld[page] = None
            else:
                self._free.append(page)

    def _forget_oldest(self) -> int:
        page = next(iter(self._unheld))
        del self._unheld[page]
        del self._named[self._names.pop(page)]
        return page

"""The parameter file: a real folder, the real watcher."""

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from predictor.core.errors import ParametersRefused, StartupError
from predictor.core.parameters import MAX_DOCUMENT_BYTES
from predictor.stores.file import FileStore
from tests.stores.watching import BOUND_S, accepted, document, refused


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "conf" / "parameters.yaml"
    path.parent.mkdir()
    path.write_bytes(document(1))
    return path


def loaded(path: Path) -> FileStore:
    store = FileStore(path)
    store.load()
    return store


def replace(path: Path, content: bytes) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(content)
    other.replace(path)


def write_in_place(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.truncate()
        file.flush()
        file.write(content)


def touch(path: Path) -> None:
    path.touch()


def clear(path: Path) -> None:
    if path.is_dir():
        path.rmdir()


# load


def test_load_gives_the_parameters(path: Path) -> None:
    assert FileStore(path).load().generation == 1


def test_load_takes_a_relative_path(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    assert FileStore(Path(path.name)).load().generation == 1


def missing(path: Path) -> None:
    path.unlink()


def folder_of_that_name(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def too_large(path: Path) -> None:
    path.write_bytes(b"#" * (MAX_DOCUMENT_BYTES + 1))


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def not_yaml(path: Path) -> None:
    path.write_bytes(b"generation: [")


def wrong_value(path: Path) -> None:
    path.write_bytes(b"generation: 1\ntiers: {fast: {priority: 0}}")


BROKEN = [
    (missing, "No such file"),
    (folder_of_that_name, "not a regular file"),
    (pipe, "not a regular file"),
    (link_to_itself, "symbolic links"),
    (too_large, f"over {MAX_DOCUMENT_BYTES} bytes"),
    (endless, "not a regular file"),
    (not_yaml, "not YAML"),
    (wrong_value, "tiers.fast.priority"),
]


@pytest.mark.parametrize(("breaks", "problem"), BROKEN)
def test_load_says_what_is_wrong(path: Path, breaks: Callable[[Path], None], problem: str) -> None:
    breaks(path)
    with pytest.raises(StartupError) as raised:
        FileStore(path).load()
    assert problem in raised.value.message
    assert str(path) in raised.value.message


# watch


@pytest.mark.parametrize("edit", [replace, write_in_place])
async def test_an_edit_is_seen(path: Path, edit: Callable[[Path, bytes], None]) -> None:
    async with aclosing(loaded(path).watch()) as watch:
        for generation in (2, 3, 4):
            edit(path, document(generation))
            assert await accepted(watch) == generation


async def test_an_edit_between_load_and_watch_is_seen(path: Path) -> None:
    store = loaded(path)
    replace(path, document(2))
    async with aclosing(store.watch()) as watch:
        assert await accepted(watch) == 2


async def test_an_edit_while_a_reader_is_busy_is_seen(path: Path) -> None:
    async with aclosing(loaded(path).watch()) as watch:
        replace(path, document(2))
        assert await accepted(watch) == 2
        replace(path, document(3))
        replace(path, document(4))
        assert await accepted(watch) == 4


async def test_an_edit_is_seen_while_the_watch_waits(path: Path) -> None:
    async with aclosing(loaded(path).watch()) as watch:
        replace(path, document(2))
        assert await accepted(watch) == 2
        waiting = asyncio.ensure_future(accepted(watch))
        await asyncio.to_thread(replace, path, document(3))
        assert await waiting == 3


async def test_the_swap_of_a_mounted_config_map_is_seen(tmp_path: Path) -> None:
    def mount(generation: int) -> None:
        """What the kubelet does: a new folder, and `..data` moved over to it."""
        folder = tmp_path / f"..2026_{generation}"
        folder.mkdir()
        (folder / "parameters.yaml").write_bytes(document(generation))
        (tmp_path / "..data_tmp").symlink_to(folder.name)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    mount(1)
    path = tmp_path / "parameters.yaml"
    path.symlink_to("..data/parameters.yaml")
    async with aclosing(loaded(path).watch()) as watch:
        for generation in (2, 3):
            mount(generation)
            shutil.rmtree(tmp_path / f"..2026_{generation - 1}")
            assert await accepted(watch) == generation


@pytest.mark.parametrize(("breaks", "problem"), BROKEN)
async def test_a_broken_edit_is_refused_once_and_the_repair_is_seen(
    path: Path, breaks: Callable[[Path], None], problem: str
) -> None:
    async with aclosing(loaded(path).watch()) as watch:
        breaks(path)
        assert problem in await refused(watch)
        touch(path.parent / "other")  # wakes the watcher; the same refusal is not told again
        clear(path)
        replace(path, document(1))  # what it was: the refusal has to be taken back
        assert await accepted(watch) == 1


async def test_the_same_content_is_told_once(path: Path) -> None:
    async with aclosing(loaded(path).watch()) as watch:
        replace(path, document(2))
        assert await accepted(watch) == 2
        replace(path, document(2))
        touch(path)
        touch(path.parent / "other")
        replace(path, document(3))
        assert await accepted(watch) == 3


async def test_a_folder_put_in_place_of_another_is_watched_on(path: Path) -> None:
    folder = path.parent
    async with aclosing(loaded(path).watch()) as watch:
        replace(path, document(2))
        assert await accepted(watch) == 2
        prepared = folder.with_name("prepared")
        shutil.copytree(folder, prepared)
        (prepared / path.name).write_bytes(document(3))
        folder.rename(folder.with_name("old"))
        prepared.rename(folder)
        assert await accepted(watch) == 3
        replace(path, document(4))
        assert await accepted(watch) == 4


async def test_a_folder_that_is_gone_ends_the_watch_with_a_refusal(path: Path) -> None:
    async with aclosing(loaded(path).watch()) as watch:
        replace(path, document(2))
        assert await accepted(watch) == 2
        shutil.rmtree(path.parent)
        async with asyncio.timeout(BOUND_S):
            messages = [news.message async for news in watch if isinstance(news, ParametersRefused)]
        assert "cannot be watched" in messages[-1]
        assert "restart" in messages[-1]


async def test_a_waiting_watch_can_be_cancelled(path: Path) -> None:
    watch = loaded(path).watch()
    waiting = asyncio.ensure_future(accepted(watch))
    await asyncio.to_thread(path.touch)
    waiting.cancel()
    async with asyncio.timeout(BOUND_S):
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await watch.aclose()


# write


def test_write_replaces_the_document_and_keeps_its_text_and_mode(path: Path) -> None:
    path.chmod(0o640)
    content = b"# why\n" + document(2)
    assert FileStore(path).write(content, expected_generation=1).generation == 2
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_write_creates_a_file_that_others_can_read(path: Path) -> None:
    path.unlink()
    FileStore(path).write(document(1))
    assert path.stat().st_mode & 0o777 == 0o644


async def test_what_is_written_is_seen(path: Path) -> None:
    async with aclosing(loaded(path).watch()) as watch:
        FileStore(path).write(document(2), expected_generation=1)
        assert await accepted(watch) == 2


@pytest.mark.parametrize(
    ("content", "expected", "problem"),
    [
        (b"generation: x", None, "generation"),
        (document(9), 7, "1 is in place now"),
        (document(1), 1, "must be above 1"),
    ],
)
def test_a_refused_write_changes_nothing(
    path: Path, content: bytes, expected: int | None, problem: str
) -> None:
    with pytest.raises(ParametersRefused) as raised:
        FileStore(path).write(content, expected)
    assert raised.value.field == "generation"
    assert problem in raised.value.message
    assert path.read_bytes() == document(1)


def test_two_writers_do_not_overwrite_each_other(path: Path) -> None:
    mine, theirs = FileStore(path), FileStore(path)
    theirs.write(document(2), expected_generation=1)
    with pytest.raises(ParametersRefused, match="2 is in place now"):
        mine.write(document(3), expected_generation=1)


def test_a_write_that_fails_leaves_nothing_behind(path: Path) -> None:
    path.unlink()
    path.mkdir()  # cannot be replaced by a file
    with pytest.raises(ParametersRefused, match="cannot be written"):
        FileStore(path).write(document(2))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_write_into_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParametersRefused, match="cannot be written"):
        FileStore(tmp_path / "nowhere" / "parameters.yaml").write(document(1))

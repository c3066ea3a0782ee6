"""Breaks one thing in what was built."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from manifests.check.objects import Object, World

Step = str | int
Change = Callable[[Any], None]


def put(*path_and_value: Any) -> Change:
    """Sets what is under the path; makes maps on the way."""
    *path, last, value = path_and_value

    def change(data: Any) -> None:
        for step in path:
            data = data.setdefault(step, {}) if isinstance(data, dict) else data[step]
        data[last] = value

    return change


def drop(*path: Step) -> Change:
    *steps, last = path

    def change(data: Any) -> None:
        for step in steps:
            data = data[step]
        del data[last]

    return change


def append(*path_and_value: Any) -> Change:
    *path, value = path_and_value

    def change(data: Any) -> None:
        for step in path:
            data = data.setdefault(step, []) if isinstance(data, dict) else data[step]
        data.append(value)

    return change


def text(old: str, new: str, *path: Step) -> Change:
    """Replaces a part of a text, which must be there."""
    *steps, last = path

    def change(data: Any) -> None:
        for step in steps:
            data = data[step]
        assert old in data[last], f"{old!r} is not in {data[last]!r}"
        data[last] = data[last].replace(old, new)

    return change


def broken(world: World, which: str, change: Change | None) -> World:
    """`which` is `Kind name`, in the overlay or beside it. None: the object is gone."""
    assert which in map(str, world.all), f"there is no {which}"
    return World(_changed(world.own, which, change), _changed(world.around, which, change))


def _changed(objects: Any, which: str, change: Change | None) -> tuple[Object, ...]:
    kept = []
    for each in objects:
        if str(each) != which:
            kept.append(each)
        elif change is not None:
            data = deepcopy(each.data)
            change(data)
            kept.append(Object(data))
    return tuple(kept)

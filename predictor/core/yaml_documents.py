"""YAML from outside, parsed within bounds: no document can crash the process or keep it busy.

libyaml composes nested nodes by recursion on the C stack, without a limit: 60,000 brackets end the
process. Its events come one by one, so a document is first read as events, and built only if its
size and depth are harmless. An alias counts as all that it stands for: a few aliases of aliases,
or merges of merges, stand for any number of values.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import yaml


class YamlLimits(msgspec.Struct, frozen=True):
    """What a document may hold, its aliases written out.

    Numbers of up to 1,024 characters, as hexadecimal ones, can still be written as decimal ones.
    """

    depth: int = 32
    nodes: int = 1 << 14
    scalar_characters: int = 1024


# For what a program of ours rendered: objects of Kubernetes hold whole files as strings.
RENDERED = YamlLimits(depth=64, nodes=1 << 21, scalar_characters=1 << 24)
_SMALL = YamlLimits()


class YamlRefusedError(ValueError):
    """The text is not YAML, or goes beyond a limit; the message says where, on one line."""


def load_yaml(document: bytes | str, limits: YamlLimits = _SMALL) -> Any:
    """The only document of a text as plain values. Raises YamlRefusedError."""
    documents = load_all_yaml(document, limits)
    if len(documents) > 1:
        raise YamlRefusedError("there are several documents; keep one, without the lines of ---")
    return documents[0] if documents else None


def load_all_yaml(document: bytes | str, limits: YamlLimits = _SMALL) -> list[Any]:
    """Every document of a text as plain values. Raises YamlRefusedError."""
    try:
        _check_events(document, limits)
        return list(yaml.load_all(document, _StrictLoader))
    except YamlRefusedError:
        raise
    except Exception as error:  # `!!bool x` and the like raise whatever they stumble over
        raise YamlRefusedError(" ".join(str(error)[:1000].split())) from None


class _Size(msgspec.Struct):
    """Of a collection that is open, or of what an anchor names."""

    anchor: str | None
    nodes: int = 1
    height: int = 0  # of levels of collections in it, its own included

    def add(self, nodes: int, height: int) -> None:
        self.nodes += nodes
        self.height = max(self.height, height + 1)


def _check_events(document: bytes | str, limits: YamlLimits) -> None:
    anchored: dict[str, _Size] = {}
    whole = _Size(None)
    opened: list[_Size] = [whole]
    nodes = 0
    for event in _events(document):
        depth = len(opened) - 1
        added = _Size(None)
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append(_Size(event.anchor, height=1))
            depth += 1
            nodes += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = opened.pop()
            opened[-1].add(ended.nodes, ended.height)
            if ended.anchor is not None:
                anchored[ended.anchor] = ended
        elif isinstance(event, yaml.AliasEvent):
            if any(each.anchor == event.anchor for each in opened):
                raise _refused(event, "an alias stands inside what it stands for")
            # An unknown one is refused when the document is built.
            added = anchored.get(event.anchor or "", added)
            depth += added.height
            nodes += added.nodes
            opened[-1].add(added.nodes, added.height)
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > limits.scalar_characters:
                raise _refused(event, f"a value is over {limits.scalar_characters} characters")
            if event.anchor is not None:
                anchored[event.anchor] = added
            nodes += 1
            opened[-1].add(1, 0)
        if depth > limits.depth:
            raise _refused(event, f"it is nested over {limits.depth} levels deep")
        if nodes > limits.nodes:
            raise _refused(event, f"it has over {limits.nodes} values, with aliases written out")


def _events(document: bytes | str) -> Iterator[yaml.Event]:
    events: Iterator[yaml.Event] = yaml.parse(document, yaml.CSafeLoader)
    return events


def _refused(event: yaml.Event, problem: str) -> YamlRefusedError:
    line = event.start_mark.line + 1 if event.start_mark else 0
    return YamlRefusedError(f"line {line}: {problem}; make it simpler")


class _StrictLoader(yaml.CSafeLoader):
    """Refuses a key that is there twice, where YAML loaders let the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise YamlRefusedError(
                    f"{key.value!r} is there twice (line {key.start_mark.line + 1})"
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

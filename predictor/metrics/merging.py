"""One exposition of several engines: each sample says whose it is, each family comes once."""

from collections.abc import Iterator, Mapping

from predictor.metrics.names import ENGINE

_END = "# EOF"


def merged(expositions: Mapping[str, bytes]) -> bytes:
    """The families of all engines, by their name, in the text or the OpenMetrics format.

    The parts are in one and the same format. A family's lines stay together: its help and
    type as the first engine tells them, then the samples of each with the label `engine`.
    """
    families: dict[str, list[str]] = {}
    ends = False
    for engine, body in expositions.items():
        known = set(families)
        family = ""
        for line in body.decode().splitlines():
            if line == _END:
                ends = True
            elif line.startswith("#"):
                family = line.split(" ", 3)[2]
                lines = families.setdefault(family, [])
                if family not in known:
                    lines.append(line)
            elif line:
                families.setdefault(family, []).append(_labelled(line, engine))
    return "".join(f"{line}\n" for line in _lines(families, ends)).encode()


def _labelled(sample: str, engine: str) -> str:
    name, brace, rest = sample.partition("{")
    label = f'{ENGINE}="{engine}"'
    if not brace or " " in name:
        name, _, rest = sample.partition(" ")
        return f"{name}{{{label}}} {rest}"
    return f"{name}{{{label}{'' if rest.startswith('}') else ','}{rest}"


def _lines(families: Mapping[str, list[str]], ends: bool) -> Iterator[str]:
    for lines in families.values():
        yield from lines
    if ends:
        yield _END

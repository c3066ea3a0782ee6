"""All that is wrong with objects: first by their schemas, then by the rules."""

from collections.abc import Sequence

from manifests.check import schemas
from manifests.check.objects import World
from manifests.check.rules import RULES


def findings(world: World) -> Sequence[str]:
    """Rules count on fields of the right types, so they are not asked where schemas complain."""
    by_schema = [problem for each in world.own for problem in schemas.findings(each)]
    return by_schema or [problem for rule in RULES for problem in rule(world)]

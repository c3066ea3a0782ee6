from collections.abc import Mapping
from pathlib import Path

import pytest

from manifests.check.build import MANIFESTS, folders, worlds
from manifests.check.objects import World

Worlds = Mapping[str, World]


@pytest.fixture(scope="session")
def built() -> Worlds:
    """Every kustomization by its folder, as `overlays/spot`."""
    found: dict[Path, World] = worlds(folders())
    return {str(folder.relative_to(MANIFESTS)): world for folder, world in found.items()}

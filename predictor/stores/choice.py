"""Which store `--parameters` means."""

import os
from pathlib import Path

from predictor.config_maps import config_map_name, config_map_place
from predictor.core.errors import StartupError
from predictor.stores.file import FileStore
from predictor.stores.last_good import LastGood
from predictor.stores.port import ParameterStore


def store_of(parameters: str, fallback: str) -> ParameterStore | None:
    """The store of a file or of `configmap:NAME`; None where nothing is named.

    Raises StartupError where the ConfigMap cannot be named, or its client is not installed.
    """
    if not parameters:
        return None
    name = config_map_name(parameters)
    if name is None:
        return FileStore(Path(parameters))
    try:
        # Not before it is needed: the client takes most of a second to import.
        from predictor.stores.config_map import ConfigMapStore
    except ImportError as error:
        raise StartupError(
            f"{parameters} needs another package ({error}): pip install 'headway[kubernetes]'"
        ) from None
    return ConfigMapStore(
        config_map_place(name, os.environ), fallback=Path(fallback) if fallback else None
    )


def last_good_of(parameters: str) -> LastGood:
    """Where what took hold of `parameters`, a file or `configmap:NAME`, is kept."""
    name = config_map_name(parameters)
    if name is None:
        return LastGood.beside(Path(parameters).absolute())
    place = config_map_place(name, os.environ)
    return LastGood.in_temporary_folder(f"{place.namespace}.{place.name}")

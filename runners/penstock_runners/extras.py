"""Optional packages, imported by the first feature that needs them."""

from __future__ import annotations

import importlib
from typing import Any

from penstock.errors import MissingExtra

__all__ = ("distributed", "ray")


def distributed() -> Any:
    """Dask's ``distributed``.

    Raises:
        MissingExtra: If it is not installed.
    """
    return _load("distributed", "DaskTaskRunner", "dask")


def ray() -> Any:
    """Ray.

    Raises:
        MissingExtra: If it is not installed.
    """
    return _load("ray", "RayTaskRunner", "ray")


def _load(module: str, feature: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(feature, extra) from error

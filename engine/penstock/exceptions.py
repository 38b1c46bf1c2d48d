"""Every error that Penstock raises; `penstock.errors` draws the tree."""

from __future__ import annotations

from penstock.errors import *  # noqa: F403 (the same names)
from penstock.errors import __all__ as __all__

"""Where values are kept: result stores, references to what lies in them, and the serializers."""

from __future__ import annotations

from penstock.errors import ResultCorrupt, ResultError, ResultForbidden, ResultMissing
from penstock.explain import CacheExplanation, explain_cache
from penstock_results.aio import AsyncResultStore
from penstock_results.references import ResultReference
from penstock_results.serializers import Serializer, Stream, register_serializer
from penstock_results.store import ResultInfo, ResultStore
from penstock_results.typed import register_type

__all__ = (
    "AsyncResultStore",
    "CacheExplanation",
    "ResultCorrupt",
    "ResultError",
    "ResultForbidden",
    "ResultInfo",
    "ResultMissing",
    "ResultReference",
    "ResultStore",
    "Serializer",
    "Stream",
    "explain_cache",
    "register_serializer",
    "register_type",
)

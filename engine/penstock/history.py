"""What happened, durably: where it is kept, what it says, and how to go on from there."""

from __future__ import annotations

from penstock_history.history import History
from penstock_history.records import AttemptRecord, LogRecord, RunQuery, RunRecord, StateRecord
from penstock_history.resuming.resume import OnCodeChange, resume
from penstock_history.retention import Retention

__all__ = (
    "AttemptRecord",
    "History",
    "LogRecord",
    "OnCodeChange",
    "Retention",
    "RunQuery",
    "RunRecord",
    "StateRecord",
    "resume",
)

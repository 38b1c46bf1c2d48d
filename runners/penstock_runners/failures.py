"""Exceptions on their way home.

The user's ``except MyError`` must work as if the task had run here, and the traceback must show the line on the
worker. Pickle alone gives neither: it forgets tracebacks, causes and notes, an exception whose ``__init__`` takes
other arguments than it passes on pickles well and cannot be unpickled, and one that holds a lock cannot be pickled.
So each exception of the chain is tried as it is; then made again without calling ``__init__`` and without the
attributes that cannot travel; and if its class cannot travel either, it comes home as a `SerializationError` that
carries its type's name and its text.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

from penstock.errors import SerializationError
from penstock_runners import pickling
from penstock_runners.pickling import Pickled

__all__ = ("PackedError", "pack_error", "unpack_error", "without_our_frames")

# Longer chains are cut; whoever builds one has the whole of it in the traceback's text.
_LONGEST_CHAIN = 16


class PackedError(NamedTuple):
    """One exception, with those that it came from and, if it is a group, those that it is made of."""

    pickled: Pickled | None
    text: str
    why_not: str
    notes: tuple[str, ...]
    cause: PackedError | None
    context: PackedError | None
    suppress_context: bool
    members: tuple[PackedError, ...]


def pack_error(error: BaseException, where: str) -> PackedError:
    """Make an exception ready for the way home.

    Args:
        error: What the user's function raised.
        where: Who ran it, as the user shall read it above the traceback.
    """
    packed = _pack(error, {})
    return packed._replace(notes=(*packed.notes, f"Traceback on {where}:\n{_format(error)}"))


def _pack(error: BaseException, seen: dict[int, None]) -> PackedError:
    """Pack an exception and those of its chain that are not in ``seen``: a chain may branch, meet or be a ring."""
    seen[id(error)] = None
    pickled, why_not = _pickled(error)
    same = error.__cause__ is error.__context__
    return PackedError(
        pickled,
        f"{_type_name(error)}: {_text(error)}",
        why_not,
        tuple(str(note) for note in getattr(error, "__notes__", ())),
        _pack_next(error.__cause__, seen),
        None if same else _pack_next(error.__context__, seen),
        error.__suppress_context__,
        tuple(_pack(member, seen) for member in _members(error)),
    )


def _members(error: BaseException) -> Sequence[BaseException]:
    return error.exceptions if isinstance(error, BaseExceptionGroup) else ()


def _pack_next(error: BaseException | None, seen: dict[int, None]) -> PackedError | None:
    if error is None or id(error) in seen or len(seen) >= _LONGEST_CHAIN:
        return None
    return _pack(error, seen)


def unpack_error(packed: PackedError) -> BaseException:
    """Make the exception again, with its notes and its chain."""
    error = _revive(packed)
    # Notes are attributes: some reductions carry them along, others lose them.
    if packed.notes:
        error.__notes__ = list(packed.notes)
    error.__cause__ = unpack_error(packed.cause) if packed.cause else None
    error.__context__ = unpack_error(packed.context) if packed.context else None
    error.__suppress_context__ = packed.suppress_context
    return error


def without_our_frames(error: BaseException, ours: frozenset[str]) -> BaseException:
    """Drop the first frames of a traceback, those of the files that run the user's function."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename in ours:
        trace = trace.tb_next
    return error.with_traceback(trace)


def _pickled(error: BaseException) -> tuple[Pickled | None, str]:
    try:
        if isinstance(error, BaseExceptionGroup):
            return pickling.dumps((type(error), error.message)), ""
        pickled = pickling.dumps(error)
        # An ``__init__`` that makes a text of its argument would be handed that text, and make another of it.
        if _same(pickling.loads(pickled), error):
            return pickled, ""
    except Exception:  # the second way says why
        pass
    try:
        pickled = pickling.dumps((type(error), _portable(error.args), _portable_state(error)))
        _rebuild(*pickling.loads(pickled))
    except Exception as reason:
        return None, f"{type(reason).__name__}: {reason}"
    return pickled, ""


def _revive(packed: PackedError) -> BaseException:
    why_not = packed.why_not
    if packed.pickled is not None:
        try:
            revived = pickling.loads(packed.pickled)
            if packed.members:
                return _regroup(revived, [unpack_error(member) for member in packed.members])
            return revived if isinstance(revived, BaseException) else _rebuild(*revived)
        except Exception as reason:
            why_not = f"{type(reason).__name__}: {reason}"
    return SerializationError(f"{packed.text} (the exception itself could not be brought home: {why_not})")


def _same(revived: object, error: BaseException) -> bool:
    return type(revived) is type(error) and _text(revived) == _text(error)


def _regroup(revived: tuple[type[BaseException], str], members: list[BaseException]) -> BaseException:
    kind, text = revived
    if all(isinstance(member, Exception) for member in members):
        return kind(text, members)
    return BaseExceptionGroup(text, members)


def _rebuild(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _portable(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value if _travels(value) else _repr(value) for value in values)


def _portable_state(error: BaseException) -> dict[str, Any]:
    return {name: value for name, value in error.__dict__.items() if name != "__notes__" and _travels(value)}


def _travels(value: Any) -> bool:
    try:
        pickling.loads(pickling.dumps(value))
    except Exception:
        return False
    return True


def _type_name(error: BaseException) -> str:
    kind = type(error)
    is_plain = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if is_plain else f"{kind.__module__}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"<its str() raised {type(broken).__name__}>"


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as broken:
        return f"<its repr() raised {type(broken).__name__}>"


def _format(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()

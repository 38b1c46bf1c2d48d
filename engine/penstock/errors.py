"""Every error that Penstock raises, as one tree.

::

    PenstockError
    ├── ConfigurationError (ValueError)      an option that cannot work, refused where it is given
    │   └── MissingExtra (ImportError)       a feature whose optional packages are not installed
    ├── InvalidCall (TypeError)              a call that cannot work, refused before anything runs
    │   ├── ParameterBindError               arguments do not fit the signature
    │   ├── ParameterTypeError               an argument does not fit its annotation
    │   ├── ReservedArgumentError            a function's parameter has a name that calls use
    │   ├── MappingLengthMismatch            the arguments of a map differ in length
    │   └── MappingMissingIterable           a map with nothing to map over
    ├── MissingContextError (RuntimeError)   something that only makes sense inside a run
    ├── FlowNotFound (LookupError)           no flow is where it was looked for
    ├── EngineClosed (RuntimeError)          an engine that was left is to start something
    ├── WouldBlock (RuntimeError)            a blocking wait on the loop that must do the work
    ├── DeadlockError (RuntimeError)         runs that wait for one another
    ├── IllegalTransition (RuntimeError)     a state change that the table does not have
    ├── RunError                             what a run's end means for whoever asks for its value
    │   ├── FailedRun                        FAILED without an exception of the user's
    │   │   └── UnhandledFailures            child runs failed and nobody looked at them
    │   ├── TimedOut (TimeoutError)          an attempt or a flow exceeded its timeout
    │   ├── CrashedRun                       the infrastructure failed
    │   ├── CancelledRun                     the run was cancelled
    │   ├── UpstreamFailed                   skipped, because a run that it depends on did not complete
    │   └── UnfinishedRun                    the run has no result yet
    ├── RunnerError                          a runner could not do its work
    │   ├── RunnerClosed                     the runner is not open
    │   └── SerializationError               a value cannot travel; says which and where in it
    ├── ResultError                          the result store could not do its work
    │   ├── ResultMissing (KeyError)         nothing lies under that key
    │   ├── ResultCorrupt                    what lies there is not what was written
    │   ├── ResultForbidden                  reading it would break the store's rules (pickle, signature)
    │   └── UnhashableInput (TypeError)      a value that no cache key can be made of
    └── HistoryError                         the history could not do its work
        ├── HistoryWriteError                something could not be recorded
        ├── OwnerLost                        this process was taken for dead and must not record any more
        ├── RunNotFound (KeyError)           there is no such run
        ├── ResumeConflict                   the run cannot be continued now: it lives, has completed, or is continued
        └── CodeChanged                      the code is not that of the recorded run

`Cancelled` stands beside the tree: it is what cancellation looks like from inside a synchronous run, and like
`asyncio.CancelledError` it derives from `BaseException`, so that ``except Exception`` does not swallow it.
"""

from __future__ import annotations

__all__ = (
    "Cancelled",
    "CancelledRun",
    "CodeChanged",
    "ConfigurationError",
    "CrashedRun",
    "DeadlockError",
    "EngineClosed",
    "FailedRun",
    "FlowNotFound",
    "HistoryError",
    "HistoryWriteError",
    "IllegalTransition",
    "InvalidCall",
    "MappingLengthMismatch",
    "MappingMissingIterable",
    "MissingContextError",
    "MissingExtra",
    "OwnerLost",
    "ParameterBindError",
    "ParameterTypeError",
    "PenstockError",
    "ReservedArgumentError",
    "ResultCorrupt",
    "ResultError",
    "ResultForbidden",
    "ResultMissing",
    "ResumeConflict",
    "RunError",
    "RunNotFound",
    "RunnerClosed",
    "RunnerError",
    "SerializationError",
    "TimedOut",
    "UnfinishedRun",
    "UnhandledFailures",
    "UnhashableInput",
    "UpstreamFailed",
    "WouldBlock",
)


class PenstockError(Exception):
    """The base of every error that Penstock raises."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # where KeyError is a base, too, it would show the repr of the message


class ConfigurationError(PenstockError, ValueError):
    """An option has a value that cannot work."""


class MissingExtra(ConfigurationError, ImportError):
    """A feature needs packages that are not installed.

    Args:
        feature: What was asked for, as the user wrote it.
        extra: The extra of this distribution that brings the packages.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(feature, extra)
        self.feature = feature
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.feature} needs packages that are not installed: pip install 'penstock[{self.extra}]'"


class InvalidCall(PenstockError, TypeError):
    """A call that cannot work; nothing of it has run."""


class ParameterBindError(InvalidCall):
    """The arguments do not fit the function's signature."""


class ParameterTypeError(InvalidCall):
    """An argument does not fit the parameter's annotation."""


class ReservedArgumentError(InvalidCall):
    """A flow or task function has a parameter whose name every call uses for itself."""


class MappingLengthMismatch(InvalidCall):
    """The iterables handed to a map differ in length."""


class MappingMissingIterable(InvalidCall):
    """A map was called without anything to map over."""


class MissingContextError(PenstockError, RuntimeError):
    """Something that only makes sense inside a flow or task run was used outside of one."""


class FlowNotFound(PenstockError, LookupError):
    """No flow can be found where it was looked for: the module, the file or the name is not there."""


class EngineClosed(PenstockError, RuntimeError):
    """The engine has been left, and starts nothing any more."""


class WouldBlock(PenstockError, RuntimeError):
    """A blocking wait would stop the event loop that has to finish the work."""


class DeadlockError(PenstockError, RuntimeError):
    """Runs wait for one another in a circle."""


class IllegalTransition(PenstockError, RuntimeError):
    """A run was asked to take a step that the transition table does not have."""


class RunError(PenstockError):
    """A run ended, or has not ended, in a way that leaves no value to hand out."""


class FailedRun(RunError):
    """The run is FAILED and carries no exception of the user's own."""


class UnhandledFailures(FailedRun):
    """Child runs failed and nobody looked at them; the first failure is the ``__cause__``."""


class TimedOut(RunError, TimeoutError):
    """A run exceeded its timeout.

    Attributes:
        run_id: The id of that run, as text.
    """

    run_id: str | None = None


class CrashedRun(RunError):
    """The infrastructure under the run failed.

    Args:
        message: What happened, where, and what to do next.
        reason: One word for programs: ``worker_lost``, ``out_of_memory``, ``signal``, ``exit``, ``scheduler_lost``, ...
        entered: Whether the function may have been entered; if not, sending the call again repeats nothing.
        hopeless: Whether a call that is sent again would be lost again: nobody is left to send it to, say.
    """

    def __init__(self, message: str, reason: str = "crashed", entered: bool = True, *, hopeless: bool = False) -> None:
        super().__init__(message, reason, entered)
        self.reason = reason
        self.entered = entered
        self.hopeless = hopeless

    def __str__(self) -> str:
        return str(self.args[0])


class CancelledRun(RunError):
    """The run was cancelled."""


class UpstreamFailed(RunError):
    """The run was skipped because a run that it depends on did not complete; that run's error is the ``__cause__``."""


class UnfinishedRun(RunError):
    """The run has not ended, so it has no result."""


class RunnerError(PenstockError):
    """A runner could not do its work."""


class RunnerClosed(RunnerError):
    """The runner is not open, or no longer."""


class SerializationError(RunnerError):
    """A value cannot be sent to a worker or brought back; the message names the attribute path inside it."""


class ResultError(PenstockError):
    """The result store could not do its work."""


class ResultMissing(ResultError, KeyError):
    """Nothing lies under that key."""


class ResultCorrupt(ResultError):
    """What lies under the key is not what was written there."""


class ResultForbidden(ResultError):
    """Reading or writing the value would break a rule of the store: pickle is off, or the signature does not match."""


class UnhashableInput(ResultError, TypeError):
    """A value of which no stable cache key can be made."""


class HistoryError(PenstockError):
    """The history could not do its work."""


class HistoryWriteError(HistoryError):
    """Something could not be recorded; says where and why."""


class OwnerLost(HistoryError):
    """Another process has found this one dead and given up its runs, so it must not record any more."""


class RunNotFound(HistoryError, KeyError):
    """The history knows no such run."""


class ResumeConflict(HistoryError):
    """A run cannot be continued: it is still running, has completed, or is continued already."""


class CodeChanged(HistoryError):
    """The code that would continue a run is not the code that began it."""


class Lost(BaseException):
    """Between a host and the order of work: the runner lost the attempt; the cause is a `CrashedRun`."""

    def __init__(self, crash: BaseException) -> None:
        super().__init__(crash)
        self.crash = crash


class Cancelled(BaseException):
    """Raised inside a synchronous run that was cancelled, where it next waits for or starts something."""


class Closed(Cancelled):
    """What becomes of an async run that streams when its consumer leaves early.

    Not GeneratorExit: a coroutine that Python throws that into must not wait for anything any more.
    """

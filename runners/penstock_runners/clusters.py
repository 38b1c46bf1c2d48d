"""What the Dask and the Ray runner have in common: everything is their session's work, while they have one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, Protocol, TypeVar

from penstock.ports import Call, Reference, Report
from penstock_runners.base import TaskRunner
from penstock_runners.references import ClusterReference

__all__ = ("ClusterSession", "ClusterTaskRunner")


class ClusterSession(Protocol):
    """An open connection to a cluster."""

    @property
    def id(self) -> str:
        """What the references to values kept there carry."""
        ...

    def submit(self, calls: Sequence[Call], report: Report) -> None:
        """See `TaskRunner.submit`."""
        ...

    def cancel(self, call: Call) -> bool:
        """See `TaskRunner.cancel`."""
        ...

    def close(self, grace: float) -> None:
        """See `TaskRunner.close`."""
        ...


S = TypeVar("S", bound=ClusterSession)


class ClusterTaskRunner(TaskRunner, Generic[S]):
    """A runner whose calls go to a cluster through a session that `open` makes."""

    remote: ClassVar[bool] = True
    batches: ClassVar[bool] = True

    _session: S | None = None

    def submit(self, calls: Sequence[Call], report: Report) -> None:
        """Send the calls as one task of the cluster's; their outcomes come home as they end."""
        self._opened().submit(calls, report)

    def cancel(self, call: Call) -> bool:
        """Withdraw or stop the call as far as the cluster can; takes a few milliseconds.

        Returns:
            Whether it is certain that the function does not run and never will.
        """
        return self._opened().cancel(call)

    def accepts(self, reference: Reference) -> bool:
        """Whether the value is kept on this cluster; it then goes from worker to worker."""
        session = self._session
        return session is not None and isinstance(reference, ClusterReference) and reference.session == session.id

    def close(self, grace: float) -> None:
        """Withdraw what waits, give what runs ``grace`` seconds, leave the cluster, and stop it if it is ours."""
        super().close(grace)
        session, self._session = self._session, None
        if session is not None:
            session.close(grace)

    def _opened(self) -> S:
        if self._session is None:
            raise self._not_open()
        return self._session

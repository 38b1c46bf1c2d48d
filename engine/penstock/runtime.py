"""What code inside a run can find out about it.

``from penstock.runtime import flow_run, task_run``, then ``flow_run.id``, ``task_run.name`` and so on. Outside of a
run every attribute is empty: None, an empty set or an empty dictionary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.context import current_run
from penstock.flow_runs import FlowRun
from penstock.ledger import Overdue, overdue
from penstock.stopping import stop_on_sigterm
from penstock.task_runs import TaskRun

__all__ = ("Overdue", "flow_run", "overdue", "stop_on_sigterm", "task_run")


class _Facts:
    """What flow runs and task runs have in common."""

    @property
    def _run(self) -> FlowRun | TaskRun | None:
        raise NotImplementedError

    @property
    def id(self) -> str | None:
        """The run's id."""
        return str(self._run.id) if self._run is not None else None

    @property
    def name(self) -> str | None:
        """The run's name."""
        return self._run.name if self._run is not None else None

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The arguments by name; those of a flow as they were validated."""
        return self._run.parameters if self._run is not None else {}

    @property
    def tags(self) -> frozenset[str]:
        """The run's tags."""
        return self._run.tags if self._run is not None else frozenset()

    @property
    def run_count(self) -> int:
        """Which attempt this is, counting from 1."""
        return self._run.attempt if self._run is not None else 0


class _FlowRunFacts(_Facts):
    """Facts about the flow run around the caller."""

    @property
    def _run(self) -> FlowRun | None:
        run = current_run.get()
        return run.flow_run if run is not None else None

    @property
    def flow_name(self) -> str | None:
        """The flow's name."""
        return self._run.flow.name if self._run is not None else None

    @property
    def flow_version(self) -> str | None:
        """The flow's version."""
        return self._run.flow.version if self._run is not None else None

    @property
    def parent_flow_run_id(self) -> str | None:
        """The id of the flow run around this one."""
        parent = self._run.parent if self._run is not None else None
        return str(parent.flow_run.id) if parent is not None and parent.flow_run is not None else None

    @property
    def root_flow_run_id(self) -> str | None:
        """The id of the outermost flow run."""
        root = self._run
        while root is not None and root.parent is not None and root.parent.flow_run is not None:
            root = root.parent.flow_run
        return str(root.id) if root is not None else None


class _TaskRunFacts(_Facts):
    """Facts about the task run around the caller."""

    @property
    def _run(self) -> TaskRun | None:
        run = current_run.get()
        return run if isinstance(run, TaskRun) else None

    @property
    def task_name(self) -> str | None:
        """The task's name."""
        return self._run.task.name if self._run is not None else None


flow_run: _FlowRunFacts = _FlowRunFacts()
task_run: _TaskRunFacts = _TaskRunFacts()

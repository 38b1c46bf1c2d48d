"""What flows and tasks have in common: a function and its options."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, ParamSpec, Self, TypeVar, cast

from penstock.errors import ConfigurationError
from penstock.keeping import Keeping
from penstock.logging import capture_prints
from penstock.parameters import Signature
from penstock.policies import RetryPolicy
from penstock.settings import settings
from penstock.states import StateType

__all__ = ("KEEP", "Definition", "Hook", "Keep")

P = ParamSpec("P")
R = TypeVar("R")
Hook = Callable[..., Any]


class Keep:
    """The type of `KEEP`, the value of an option that ``with_options`` leaves as it is."""

    def __repr__(self) -> str:
        return "KEEP"


KEEP = Keep()

_HOOKS = {
    "on_running": StateType.RUNNING,
    "on_completion": StateType.COMPLETED,
    "on_failure": StateType.FAILED,
    "on_cancellation": StateType.CANCELLED,
    "on_crashed": StateType.CRASHED,
}


class Definition(Generic[P, R]):
    """A function with a name, options and hooks.

    Attributes:
        fn: The function as it was written; calling it starts no run.
        name: What people call it.
        retry: When to try again after a failure.
        timeout_seconds: Seconds that one attempt may take, or None.
        hooks: What to call, by the state that is taken.
        keeping: What becomes of results.
        persists: Whether results are stored; None leaves it to the flow around.
        is_async: Whether calling the function gives a coroutine or an async generator.
        is_generator: Whether calling the function gives a generator of either kind.
    """

    kind = "definition"

    def __init__(self, fn: Callable[P, R], options: Mapping[str, Any]) -> None:
        if isinstance(fn, classmethod | staticmethod):
            self._descriptor: Any = fn
            fn = fn.__func__
        else:
            self._descriptor = None
        if not callable(fn):
            raise ConfigurationError(f"@{self.kind} decorates functions; {fn!r} is not callable.")
        self.fn: Callable[P, R] = fn
        self.options: dict[str, Any] = dict(options)
        self._refuse_unknown_options()
        self.name: str = str(options.get("name") or getattr(fn, "__name__", type(fn).__name__))
        self.description: str | None = options.get("description") or inspect.getdoc(fn)
        self.version: str | None = options.get("version")
        self.tags: frozenset[str] = frozenset(_checked_tags(options.get("tags"), self))
        self.run_name: str | Callable[..., str] | None = options.get("run_name")
        self.timeout_seconds: float | None = _checked_timeout(options.get("timeout_seconds"), self)
        self.log_prints: bool | None = options.get("log_prints")
        self.retry: RetryPolicy = self._make_retry(options)
        self.retry_condition_fn: Callable[..., Any] | None = options.get("retry_condition_fn")
        hooks = {state: _checked_hooks(options.get(name), name, self) for name, state in _HOOKS.items()}
        self.hooks: dict[StateType, tuple[Hook, ...]] = {state: each for state, each in hooks.items() if each}
        self.is_generator: bool = inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)
        self.is_async: bool = inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn)
        self.signature: Signature = Signature(fn, str(self))
        self.keeping: Keeping = Keeping.make(options, self)
        self.persists: bool | None = self.keeping.persist
        if self.log_prints:
            capture_prints()
        functools.update_wrapper(cast(Any, self), cast(Any, fn), updated=())

    def _refuse_unknown_options(self) -> None:
        known = self.known_options()
        for name in self.options.keys() - known:
            ending = sorted(longer for longer in known if longer.endswith(f"_{name}"))
            nearest = ending or difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"it knows {', '.join(sorted(known))}."
            raise ConfigurationError(f"@{self.kind} has no option {name!r}: {hint}")

    @classmethod
    @functools.cache
    def known_options(cls) -> frozenset[str]:
        """The options that the decorator takes: those of ``with_options``, and what stays as it was written."""
        named = inspect.signature(cls.with_options).parameters.keys() - {"self", f"{cls.kind}_run_name"}
        return frozenset(named | {"run_name", "version"})

    def with_options(self) -> Self:
        """Overridden by flows and tasks, with their options."""
        raise NotImplementedError

    def _make_retry(self, options: Mapping[str, Any]) -> RetryPolicy:
        default = settings(f"{self.kind}_retries", int, 0), settings(f"{self.kind}_retry_delay_seconds", float, None)
        retries, delay = options.get("retries"), options.get("retry_delay_seconds")
        return RetryPolicy.make(
            default[0] if retries is None else retries,
            default[1] if delay is None else delay,
            options.get("retry_jitter_factor"),
            str(self),
        )

    @property
    def isasync(self) -> bool:
        """`is_async`, under the peer's name."""
        return self.is_async

    @property
    def isgenerator(self) -> bool:
        """`is_generator`, under the peer's name."""
        return self.is_generator

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """A copy with some options changed; None and empty collections clear what was set."""
        options = {**self.options, **{name: value for name, value in changes.items() if not isinstance(value, Keep)}}
        return type(self)._make(self._descriptor or self.fn, options)

    @classmethod
    def _make(cls, fn: Callable[..., Any], options: Mapping[str, Any]) -> Self:
        made = cls.__new__(cls)
        Definition.__init__(cast(Any, made), fn, options)
        made._set_up(options)
        return made

    def _set_up(self, options: Mapping[str, Any]) -> None:
        """Read the options that only this kind of definition has."""

    def __get__(self, instance: object, owner: type | None = None) -> Self:
        """Bind a method: a copy of the definition whose function has its first argument."""
        if isinstance(self._descriptor, staticmethod):
            return self
        target = owner if isinstance(self._descriptor, classmethod) else instance
        if target is None:
            return self
        bound = type(self).__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound.fn = self.fn.__get__(target)
        bound.signature = Signature(bound.fn, str(self))
        bound._descriptor = None
        return bound

    def _add_hook(self, name: str, hook: Hook) -> Hook:
        state = _HOOKS[name]
        self.options[name] = [*(self.options.get(name) or ()), hook]
        self.hooks = {**self.hooks, state: _checked_hooks(self.options[name], name, self)}
        return hook

    def on_running(self, hook: Hook) -> Hook:
        """Decorate a function to be called as ``hook(definition, run, state)`` whenever an attempt begins."""
        return self._add_hook("on_running", hook)

    def on_completion(self, hook: Hook) -> Hook:
        """Decorate a function to be called when a run has completed."""
        return self._add_hook("on_completion", hook)

    def on_failure(self, hook: Hook) -> Hook:
        """Decorate a function to be called when a run has failed for good."""
        return self._add_hook("on_failure", hook)

    def on_cancellation(self, hook: Hook) -> Hook:
        """Decorate a function to be called when a run was cancelled."""
        return self._add_hook("on_cancellation", hook)

    def on_crashed(self, hook: Hook) -> Hook:
        """Decorate a function to be called when a run has crashed."""
        return self._add_hook("on_crashed", hook)

    def name_run(self, run: Any, default: str) -> str:
        """Make a run's name from the ``run_name`` option: a template over the parameters, or a function."""
        if self.run_name is None:
            return default
        if isinstance(self.run_name, str):
            parameters = run.parameters or self.signature.bind(run.args, run.kwargs)
            return self.run_name.format(**parameters)
        if inspect.signature(self.run_name).parameters:
            return self.run_name(run.parameters or self.signature.bind(run.args, run.kwargs))
        return self.run_name()

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def _checked_tags(tags: object, owner: object) -> Iterable[str]:
    if tags is None:
        return ()
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise ConfigurationError(f"{owner}: tags={tags!r}; give a list of strings.")
    return [str(tag) for tag in tags]


def _checked_timeout(seconds: object, owner: object) -> float | None:
    if seconds is None:
        return None
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds <= 0:
        raise ConfigurationError(f"{owner}: timeout_seconds={seconds!r}; give a number of seconds above 0, or None.")
    return float(seconds)


def _checked_hooks(hooks: Any, name: str, owner: object) -> tuple[Hook, ...]:
    if hooks is None:
        return ()
    if not isinstance(hooks, Iterable):
        raise ConfigurationError(f"{owner}: {name}={hooks!r}; give a list of functions: {name}=[{hooks!r}].")
    checked = tuple(hooks)
    for hook in checked:
        if not callable(hook):
            raise ConfigurationError(f"{owner}: {name} has {hook!r} in it, which cannot be called.")
    return checked

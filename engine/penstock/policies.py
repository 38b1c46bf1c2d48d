"""Decisions about runs: whether to try again, what a failure or a returned value makes of a run. Pure.

Everything that a decision depends on is handed in, chance included, so that each one is a table in a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from penstock.errors import ConfigurationError
from penstock.states import State, StateType

__all__ = ("MAX_DELAYS", "NO_RETRIES", "RetryDelay", "RetryPolicy", "aggregate", "ending", "exponential_backoff")

RetryDelay: TypeAlias = float | Sequence[float] | Callable[[int], Sequence[float] | float]
"""Seconds: the same before every retry, one per retry (the last repeats), or a function of the number of retries."""

MAX_DELAYS = 50
"""How many delays a list may have: the peer's limit, kept so that scripts fail in the same place."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again.

    Attributes:
        retries: How many attempts may follow the first one.
        delays: Seconds before each retry; the last one repeats.
        jitter: A delay is stretched by a random factor between 1 and ``1 + jitter``.
    """

    retries: int = 0
    delays: tuple[float, ...] = ()
    jitter: float = 0.0

    @classmethod
    def make(cls, retries: int | None, delay: RetryDelay | None, jitter: float | None, owner: str) -> RetryPolicy:
        """Check and normalise what a decorator was given.

        Raises:
            ConfigurationError: If a number is negative or there are too many delays; names ``owner`` and the option.
        """
        count = _as_count(retries, owner)
        if jitter is not None and jitter < 0:
            raise ConfigurationError(f"{owner}: retry_jitter_factor={jitter!r} is negative; give 0.0 or more.")
        delays = _as_delays(delay(count) if callable(delay) else delay, owner)
        if not count and not delays and not jitter:
            return NO_RETRIES
        return cls(count, delays, jitter or 0.0)

    def delay_after(self, attempt: int, chance: Callable[[], float]) -> float | None:
        """Decide what follows a failed attempt.

        Args:
            attempt: Which attempt failed, counting from 1.
            chance: Gives a number between 0 and 1.

        Returns:
            Seconds to wait before the next attempt, or None to give up.
        """
        if attempt > self.retries:
            return None
        if not self.delays:
            return 0.0
        delay = self.delays[min(attempt, len(self.delays)) - 1]
        return delay * (1.0 + self.jitter * chance()) if self.jitter else delay


NO_RETRIES = RetryPolicy()


def _as_count(retries: object, owner: str) -> int:
    count = retries or 0
    if not isinstance(count, int):
        raise ConfigurationError(f"{owner}: retries={retries!r}; give a whole number.")
    if count < 0:
        raise ConfigurationError(f"{owner}: retries={retries!r} is negative; give 0 or more.")
    return count


def _as_delays(delay: float | Sequence[float] | None, owner: str) -> tuple[float, ...]:
    if delay is None:
        return ()
    delays = (float(delay),) if isinstance(delay, int | float) else tuple(float(seconds) for seconds in delay)
    if len(delays) > MAX_DELAYS:
        raise ConfigurationError(f"{owner}: {len(delays)} retry delays; at most {MAX_DELAYS} can be given.")
    if any(seconds < 0 for seconds in delays):
        raise ConfigurationError(f"{owner}: retry_delay_seconds={delays!r} has a negative delay.")
    return delays


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """Delays that double: ``retry_delay_seconds=exponential_backoff(10)`` waits 10, 20, 40, ... seconds.

    Args:
        backoff_factor: The first delay, in seconds.
    """
    if backoff_factor < 0:
        raise ConfigurationError(f"exponential_backoff({backoff_factor!r}): the factor is negative.")

    def delays(retries: int) -> list[float]:
        return [backoff_factor * 2.0**retry for retry in range(min(retries, MAX_DELAYS))]

    return delays


def ending(state: State) -> State:
    """The last state of a run whose function returned a state: that one, if a function can choose it.

    A function that was entered was not skipped, and one that returned does not wait for anything: both are failures.
    """
    if state.is_skipped():
        return State(StateType.FAILED, None, state.message, state.error)
    if not state.is_final():
        return State(StateType.FAILED, None, f"The function returned the state {state}, which is not final.")
    return state


def aggregate(states: Iterable[State]) -> State:
    """The state that a flow takes when it returns the states or futures of other runs, and nothing else.

    CANCELLED if any was cancelled, else FAILED if any did not complete, else COMPLETED. The data of the worst state
    comes along, so that the flow raises what its child raised.
    """
    known = list(states)
    bad = [state for state in known if not state.is_completed()]
    if not bad:
        return State(StateType.COMPLETED, message=f"{len(known)}/{len(known)} states completed.")
    worst = next((state for state in bad if state.is_cancelled()), bad[0])
    kind = StateType.CANCELLED if worst.is_cancelled() else StateType.FAILED
    verb = "are not final" if not worst.is_final() else "did not complete"
    data: Any = worst.error if worst.is_final() else None
    return State(kind, message=f"{len(bad)}/{len(known)} states {verb}.", data=data)

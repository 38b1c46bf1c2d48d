"""Arguments and signatures: binding, and validating with pydantic."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from penstock.errors import ConfigurationError, ParameterBindError, ParameterTypeError, ReservedArgumentError

__all__ = ("RESERVED", "Signature")

RESERVED = ("return_state", "wait_for")
"""Keywords that every call of a flow or task may carry for the engine."""

_Kind = inspect.Parameter


class Signature:
    """A function's signature, read once.

    Args:
        fn: The function.
        owner: What to call it in errors.

    Raises:
        ConfigurationError: If Python does not know it, as of some built-in functions.
        ReservedArgumentError: If a parameter has a name that calls use.
    """

    def __init__(self, fn: Callable[..., Any], owner: str) -> None:
        self._fn = fn
        self._owner = owner
        try:
            self._signature = inspect.signature(fn)
        except ValueError as error:
            advice = "Call it in a function of your own, and decorate that."
            raise ConfigurationError(f"{owner}: {error}. {advice}") from None
        parameters = self._signature.parameters.values()
        for name in RESERVED:
            if name in self._signature.parameters:
                raise ReservedArgumentError(f"{owner} has a parameter {name!r}, which calls use: rename it.")
        positional = [p for p in parameters if p.kind in (_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD)]
        needs_keywords = any(p.kind is _Kind.KEYWORD_ONLY and p.default is _Kind.empty for p in parameters)
        self._fewest = sum(p.default is _Kind.empty for p in positional) if not needs_keywords else 1 << 30
        self._most = len(positional) if not self.takes_any_positional else 1 << 30
        self.names: tuple[str, ...] = tuple(self._signature.parameters)

    @property
    def takes_any_positional(self) -> bool:
        """Whether there is a ``*args`` parameter."""
        return any(p.kind is _Kind.VAR_POSITIONAL for p in self._signature.parameters.values())

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Refuse arguments that do not fit, before anything runs.

        Raises:
            ParameterBindError: If they do not.
        """
        if kwargs or not self._fewest <= len(args) <= self._most:
            self._bind(args, kwargs)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by parameter name, defaults included.

        Raises:
            ParameterBindError: If they do not fit.
        """
        bound = self._bind(args, kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def unbind(self, parameters: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The reverse of `bind`."""
        bound = inspect.BoundArguments(self._signature, dict(parameters))
        return bound.args, bound.kwargs

    def name_of(self, position: int) -> str | None:
        """The parameter that a positional argument is for, if it can also be given by keyword."""
        if position >= len(self.names):
            return None
        parameter = self._signature.parameters[self.names[position]]
        return parameter.name if parameter.kind is _Kind.POSITIONAL_OR_KEYWORD else None

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        try:
            return self._signature.bind(*args, **kwargs)
        except TypeError as error:
            unknown = [f"; there is no {name!r}" for name in self._unknown(kwargs) if repr(name) not in str(error)]
            raise ParameterBindError(f"{self._owner} takes {self._signature}: {error}{''.join(unknown)}.") from None

    def _unknown(self, kwargs: Mapping[str, Any]) -> list[str]:
        """The keywords that the function does not take."""
        parameters = self._signature.parameters
        takes_any = any(p.kind is _Kind.VAR_KEYWORD for p in parameters.values())
        return [] if takes_any else [name for name in kwargs if name not in parameters]

    def validate(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Check every argument against its annotation, and convert what pydantic converts.

        Raises:
            ParameterTypeError: If one does not fit; names the parameter and says what pydantic said.
        """
        return {name: self._validate_one(name, value) for name, value in parameters.items()}

    def read(self, name: str, text: str) -> Any:
        """Make a parameter's value of text, as a command line has it.

        What is declared as a string is the text itself. A list, an object or null in JSON is that; anything else is
        what pydantic makes of the text for the annotation, or of its JSON value if it can make nothing of the text.

        Args:
            name: The parameter, or the name of a further keyword where the function takes any.
            text: The text.

        Raises:
            ParameterTypeError: If it does not fit the annotation; names the parameter.
        """
        annotation = self._annotation_of(name)
        if annotation is str:
            return text
        value = _from_json(text)
        if annotation is Any or (annotation in _EXACT and type(value) is annotation):
            return value
        adapter = self._adapter(name, annotation)
        readings = [(adapter.validate_strings, text), (adapter.validate_python, value)]
        if value is None or isinstance(value, list | dict):
            readings.reverse()
        try:
            return self._explained(name, *readings[0])
        except ParameterTypeError as first:
            try:
                return self._explained(name, *readings[1])
            except ParameterTypeError:
                raise first from None

    def _annotation_of(self, name: str) -> Any:
        """The annotation of a parameter, `Any` without one; of a name that it does not have, that of ``**kwargs``."""
        if name not in self._signature.parameters:
            kinds = {parameter.kind: parameter.name for parameter in self._signature.parameters.values()}
            name = kinds.get(_Kind.VAR_KEYWORD, name)
        return self._annotations.get(name, Any)

    def _validate_one(self, name: str, value: Any) -> Any:
        annotation = self._annotations.get(name, Any)
        # The commonest arguments are exactly what they are declared to be, and pydantic takes 90 ms to import.
        if annotation is Any or (annotation in _EXACT and type(value) is annotation):
            return value
        parameter = self._signature.parameters[name]
        if parameter.kind is _Kind.VAR_POSITIONAL:
            return tuple(self._convert(name, annotation, item) for item in value)
        if parameter.kind is _Kind.VAR_KEYWORD:
            return {key: self._convert(key, annotation, item) for key, item in value.items()}
        if value is parameter.default:
            return value
        return self._convert(name, annotation, value)

    def _convert(self, name: str, annotation: Any, value: Any) -> Any:
        return self._explained(name, self._adapter(name, annotation).validate_python, value)

    def _explained(self, name: str, validate: Callable[[Any], Any], value: Any) -> Any:
        """What pydantic makes of a value; its errors become ours, and name the parameter."""
        from pydantic import ValidationError

        try:
            return validate(value)
        except ValidationError as error:
            details = "; ".join(f"{_where(name, detail['loc'])}{detail['msg']}" for detail in error.errors())
            raise ParameterTypeError(f"{self._owner}, parameter {name!r}: {details}. Got {value!r:.200}.") from error

    def _adapter(self, name: str, annotation: Any) -> Any:
        from pydantic import ConfigDict, PydanticUserError, TypeAdapter

        if name not in self._adapters:
            try:
                adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
            except PydanticUserError:  # a model brings its own configuration and takes no other
                adapter = TypeAdapter(annotation)
            self._adapters[name] = adapter
        return self._adapters[name]

    @cached_property
    def _adapters(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _annotations(self) -> dict[str, Any]:
        try:
            return typing.get_type_hints(self._fn, include_extras=True)
        except NameError:  # a name that exists for type checkers only: what cannot be resolved cannot be validated
            return {name: hint for name, hint in self._fn.__annotations__.items() if not isinstance(hint, str)}


_EXACT = {int, float, str, bytes, bool, list, dict, set, tuple, type(None)}


def _from_json(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text


def _where(name: str, location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, (name, *location))) + ": " if location else ""

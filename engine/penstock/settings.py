"""Defaults from the environment.

Every setting is an environment variable ``PENSTOCK_<NAME>``; docs/reference/settings.md lists them. They are read
when a flow or task is defined or an engine is made, so that a program can set them before that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from penstock.errors import ConfigurationError

__all__ = ("settings", "truth")


def settings(name: str, convert: Callable[[str], Any], default: Any) -> Any:
    """The value of a setting.

    Args:
        name: The variable's name without ``PENSTOCK_``, in any case.
        convert: Makes a value of the text.
        default: The value if the variable is not set or empty.

    Raises:
        ConfigurationError: If the text cannot be converted; names the variable.
    """
    variable = f"PENSTOCK_{name.upper()}"
    text = os.environ.get(variable)
    if not text:
        return default
    try:
        return convert(text)
    except ValueError as error:
        raise ConfigurationError(f"The environment variable {variable} is {text!r}: {error}.") from None


def truth(text: str) -> bool:
    """Read a yes or no.

    Raises:
        ValueError: If it is neither.
    """
    answers = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in answers:
        raise ValueError("give true or false")
    return answers[text.lower()]

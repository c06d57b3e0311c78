"""A user's own function, named on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import one_line


def imported_function(place: str) -> Callable[[str, str], Any]:
    """The function at `module:function`, of a module that is installed or lies in the current folder.

    Raises:
        ConfigError: there is none.
    """
    module, colon, name = place.partition(":")
    if not colon or not module or not name:
        raise ConfigError(f"--score {place}: write it as --score MODULE:FUNCTION, as in --score checks:is_right")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(import_module(module), name)
    except Exception as error:  # whatever a user's module raises
        raise ConfigError(f"--score {place}: cannot be imported ({one_line(error)}); correct it") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not callable(function):
        raise ConfigError(f"--score {place}: is a {type(function).__name__}, not a function")
    return function

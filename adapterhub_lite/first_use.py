"""Names that a module hands on and that are imported when they are first asked for, so that importing it is quick."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from inspect import getsource
from typing import Any


def on_first_use(module: str) -> Callable[[str], Any]:
    """A `__getattr__` for a module: it gives the names that the module imports under `if TYPE_CHECKING:`.

    So each name is written once, and type checkers see what it is.
    """

    @cache
    def homes() -> Mapping[str, str]:
        return homes_of(module)

    def give(name: str) -> Any:
        if name.startswith("__") or name not in homes():
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(import_module(homes()[name]), name)

    return give


def homes_of(module: str) -> Mapping[str, str]:
    """Where each name comes from that a module imports under `if TYPE_CHECKING:`, by name."""
    blocks = [node for node in ast.parse(getsource(sys.modules[module])).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}

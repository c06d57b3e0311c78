"""The libraries of the extra `audit`, asked for when a finding needs one."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from adapterhub_lite.errors import ConfigError


def needed(module: str, library: str) -> Any:
    """A module of a library that may not be installed.

    Raises:
        ConfigError: it is not; names the extra that brings it.
    """
    try:
        return import_module(module)
    except ImportError:
        raise ConfigError(f"the audit needs {library}; pip install 'adapterhub-lite[audit]'") from None


def check_needs(modality: str, *, with_base: bool, with_slices: bool) -> None:
    """Ask for everything that an audit will need before features are computed, which may take long.

    Raises:
        ConfigError: a library is not installed.
    """
    libraries = {"text": ["datasketch"], "image": ["imagehash"]}.get(modality, [])
    libraries += ["sklearn", "cleanlab", *(["fairlearn"] if with_slices else [])] if with_base else []
    for library in libraries:
        needed(library, "scikit-learn" if library == "sklearn" else library)

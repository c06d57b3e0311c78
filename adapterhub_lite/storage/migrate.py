"""Manifests of earlier releases, brought up to date when they are read. The files on disk are left as they are.

When the layout changes: raise `SCHEMA_VERSION`, add the step from the version before to `STEPS`, and add an adapter
saved by that version to `tests/storage/golden/`, where it stays for good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adapterhub_lite.errors import AdapterCorruptError

STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From a schema version to the function that makes a document of it one of the next version."""


def migrate(document: dict[str, Any], newest: int, where: str) -> dict[str, Any]:
    """Return a manifest's document as the schema version `newest` writes it.

    Raises:
        AdapterCorruptError: where a step fails, because the document is not what its version says; names `where`.
    """
    version = document.get("schema_version")
    while type(version) is int and version < newest and version in STEPS:
        try:
            document = {**STEPS[version](document), "schema_version": version + 1}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AdapterCorruptError(
                f"{where}: not a manifest of schema version {version} ({type(error).__name__}: {error}); "
                "save the adapter again or fetch it anew"
            ) from None
        version += 1
    return document

"""References to a file, and to one split in it."""

from __future__ import annotations

WITH_SPLITS = (".npz", ".json")


def parse_reference(reference: str) -> tuple[str, str]:
    """The path and the split of "file.npz#train" or "file.json#train"; the split is "" where none is named."""
    path, _, split = reference.rpartition("#")
    return (path, split) if path.lower().endswith(WITH_SPLITS) else (reference, "")

"""Whether a save may replace what is already in its target folder."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from adapterhub_lite.errors import AdapterCorruptError, StorageError
from adapterhub_lite.storage.layout import CONFIG, MANIFEST, SIGNATURE, TENSORS
from adapterhub_lite.storage.manifest import MAX_MANIFEST_BYTES, decode_manifest
from adapterhub_lite.storage.plain import read_plain

# Left by file managers in any folder a person has looked at; nobody misses them.
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


def refuse_irreplaceable(target: Path, mark: str | None) -> None:
    """Check that `target` is missing or a directory a save may replace: empty, or with a file called `mark`.

    With `mark` None any directory will do.

    Raises:
        StorageError: where it is something else, which a save would destroy or could not replace.
    """
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise StorageError(f"cannot save to {target}: it is a file; choose a folder")
    inside = target / "adapter"
    if os.path.ismount(target):
        raise StorageError(
            f"cannot save to {target}: a mount point cannot be replaced; choose a folder in it: {inside}"
        )
    if mark is not None and not (target / mark).is_file() and any(target.iterdir()):
        raise StorageError(
            f"cannot save to {target}: the folder is not empty and has no {mark}, so it is not ours to replace; "
            f"choose another folder, such as {inside}"
        )


def refuse_strangers(target: Path) -> None:
    """Check that the adapter at `target`, if there is one, shares its folder with nothing a save would delete.

    Raises:
        StorageError: naming the first thing in the folder that is not the adapter's.
    """
    if not (target / MANIFEST).is_file():
        return
    known = {MANIFEST, CONFIG, TENSORS, SIGNATURE} | _LITTER
    with suppress(AdapterCorruptError):  # a damaged adapter may be replaced; the usual names are known anyway
        known |= set(decode_manifest(read_plain(target / MANIFEST, MAX_MANIFEST_BYTES), str(target)).files)
    strangers = sorted(entry.name for entry in target.iterdir() if entry.name not in known or entry.is_dir())
    if strangers:
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise StorageError(
            f"cannot replace the adapter at {target}: the folder also has {strangers[0]!r}{more}, which would be "
            "deleted; move that away or choose another folder"
        )

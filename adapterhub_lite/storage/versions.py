"""Putting an earlier version of an adapter back, deleting an adapter, and trimming what is kept of it."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from adapterhub_lite.errors import AdapterCorruptError, AdapterNotFoundError
from adapterhub_lite.storage.commit import commit_directory, remove_directory, resolve, with_lock
from adapterhub_lite.storage.history import (
    KEEP,
    Version,
    contents,
    find_version,
    history_folder,
    keep_version,
    manifest_bytes,
    prune,
)
from adapterhub_lite.storage.layout import MANIFEST
from adapterhub_lite.storage.occupant import refuse_strangers
from adapterhub_lite.storage.plain import open_plain, read_chunks, size_of
from adapterhub_lite.storage.store import check_file, read_adapter


def rollback(target: Path, wanted: str | None = None, *, keep: int = KEEP) -> Version:
    """Put a kept version back in place, in one atomic step; the one in use is kept as a version.

    Args:
        target: The adapter. It may have been deleted.
        wanted: Beginning of the id of a version; by default the version in use before this one, so that a second
            rollback undoes the first.
        keep: How many versions are kept afterwards.

    Raises:
        StorageError: no such version, or it cannot be written; the adapter is as it was.
        AdapterCorruptError: the kept version is damaged; the adapter is as it was.
    """
    target = resolve(target)
    chosen = find_version(target, wanted)

    def write(folder: Path) -> None:
        refuse_strangers(target)
        for name, place, file in contents(target, chosen):
            with open_plain(place) as source, (folder / name).open("wb") as copy:
                if size_of(source) != file.size:
                    raise AdapterCorruptError(f"{place}: damaged, so version {chosen.id} cannot be put back")
                copy.writelines(read_chunks(source, file.size, place))
            with open_plain(folder / name) as copied:  # what is put in place, not what was read, must be right
                check_file(place, copied, file)
        (folder / MANIFEST).write_bytes(manifest_bytes(target, chosen))
        read_adapter(folder)

    commit_directory(target, write, last=MANIFEST, replacing=partial(keep_version, keep=keep))
    return chosen


def delete_adapter(target: Path, *, keep: int = KEEP) -> None:
    """Delete the adapter at `target`, in one atomic step; it is kept as a version, unless `keep` is 0.

    Raises:
        AdapterNotFoundError: where there is none.
        StorageError: where it cannot be deleted, or its folder has other files; it is as it was.
    """
    target = resolve(target)
    if not (target / MANIFEST).is_file():
        raise AdapterNotFoundError(f"no adapter at {target}: nothing to delete")

    def retire(target: Path) -> None:
        refuse_strangers(target)
        keep_version(target, keep)

    remove_directory(target, retire)


def trim(target: Path, keep: int) -> None:
    """Keep no more than the newest `keep` versions of the adapter at `target`.

    Raises:
        StorageError: where they cannot be deleted.
    """
    target = resolve(target)
    if history_folder(target).is_dir():
        with with_lock(target):
            prune(target, keep)
            if keep <= 0:
                shutil.rmtree(history_folder(target), ignore_errors=True)

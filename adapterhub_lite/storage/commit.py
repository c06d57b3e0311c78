"""Put a directory in place so that a crash at any moment leaves the one before or the one after, whole.

Names beside a target `NAME`, all hidden:

    .NAME.locks/             NAME.lock is held from before the staging directory is made until the old one is deleted;
                             those of NAME and of its run NAME.run lie here, and the folder is gone when none is held
    .NAME.staging-<16 hex>   what is being written, or, after an exchange, the old directory on its way out
    .NAME.backup             the old directory between two renames, where directories cannot be exchanged
    .NAME.history            earlier versions; see `history`

Whoever holds the lock may delete every staging directory there is: its writer would hold the lock, so it is dead. A
backup without a target is the last good version, and is put back; a backup beside a target has been replaced.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from adapterhub_lite.errors import StorageError
from adapterhub_lite.storage.disk import (
    errors_of_the_system,
    exchange,
    storage_error,
    sync_directory,
    sync_file,
    sync_tree,
)
from adapterhub_lite.storage.layout import MANIFEST
from adapterhub_lite.storage.occupant import refuse_irreplaceable, refuse_strangers

LOCK_TIMEOUT = 600.0  # seconds another writer may take before this one gives up


def commit_directory(
    target: Path,
    write: Callable[[Path], None],
    *,
    last: str | None = None,
    replacing: Callable[[Path], None] | None = None,
) -> None:
    """Make `target` the directory that `write` fills, in one atomic and durable step.

    `write` gets an empty directory beside the target. The file named by `last` must be there afterwards and reaches
    the disk after all others; a target that has files, but none of that name, is not an adapter, and is not replaced.
    Without `last` any directory is replaced. A symbolic link is followed: what it leads to is replaced, not the link.
    `replacing` is called with the resolved target, which is still as it was, when all else is ready.

    Raises:
        StorageError: where it cannot be written or is locked for long; the target is as it was before.
    """
    target = resolve(target)
    try:
        refuse_irreplaceable(target, last)  # before anything is made; and again when nobody else can be at work
        _make_parents(target.parent)
        with _locked(target):
            _recover(target)
            _sweep(target)
            refuse_irreplaceable(target, last)
            staging = _staging_beside(target)
            try:
                staging.mkdir()
                with errors_of_the_system():
                    write(staging)
                _ordinary_permissions(staging)
                if last is not None and not (staging / last).is_file():
                    raise StorageError(f"cannot save to {target}: its writer left out {last}; report this as a bug")
                sync_tree(staging, last)
                if replacing is not None:
                    replacing(target)
                _publish(staging, target)
            finally:
                # A no-op after a first save. After an exchange this is the old directory, and what cannot be deleted
                # now is swept by the next commit.
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise storage_error(error, target) from error


def remove_directory(target: Path, retire: Callable[[Path], None]) -> None:
    """Take the directory at `target`, a resolved path, away in one atomic and durable step.

    `retire` is called with it first, while it is still there.

    Raises:
        StorageError: where it cannot be removed; it is as it was before.
    """
    with with_lock(target):
        _recover(target)
        _sweep(target)
        retire(target)
        gone = _staging_beside(target)
        _rename(target, gone)
        shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def with_lock(target: Path) -> Iterator[None]:
    """Hold the lock of `target`, a resolved path, for the length of a block.

    Raises:
        StorageError: where it is locked for long, and for every OSError of the block.
    """
    try:
        with _locked(target):
            yield
    except OSError as error:
        raise storage_error(error, target) from error


def recover(target: Path) -> None:
    """Put back what an interrupted save left aside, if it did; for a reader that finds no target.

    Raises:
        StorageError: where it is there but cannot be put back.
    """
    backup = _backup(target)
    if target.exists() or not backup.is_dir():
        return
    try:
        with _locked(target):  # waits for a writer that is between its two renames at this moment
            _recover(target)
    except OSError as error:
        raise StorageError(
            f"an interrupted save left {target} aside as {backup}, and it cannot be put back "
            f"({error.strerror or error}); rename it by hand"
        ) from error


def check_writable_target(target: Path) -> None:
    """Find out whether an adapter could be saved at `target`, and leave everything as it was.

    For use before a model is loaded. An existing adapter is fine; it will be replaced.

    Raises:
        StorageError: where it could not, with the reason.
    """
    target = resolve(target)
    try:
        refuse_irreplaceable(target, MANIFEST)
        refuse_strangers(target)
        existing = target.parent
        while not existing.exists():
            existing = existing.parent
        if not existing.is_dir():
            raise StorageError(f"cannot save to {target}: {existing} is a file; choose another folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise StorageError(f"cannot save to {target}: no permission to write in {existing}; choose another folder")
        lock = lock_beside(target)
        if lock.exists() and not os.access(lock, os.R_OK | os.W_OK):
            raise StorageError(f"cannot save to {target}: no permission to lock {lock}; choose another folder")
        # A real attempt, since permission bits do not know of read-only mounts, quotas and names that are too long.
        # The missing parents are made inside the staging folder, where nobody sees them come and go.
        staging = _staging_beside(existing / target.name)
        try:
            staging.mkdir()
            inside = staging / target.relative_to(existing)
            inside.mkdir(parents=True)
            (inside / MANIFEST).write_bytes(b"0" * 4096)
            sync_file(inside / MANIFEST)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise storage_error(error, target) from error


def resolve(target: Path) -> Path:
    """Return the absolute path that `target` leads to, with symbolic links followed."""
    if "\0" in str(target):
        raise StorageError(f"cannot save to {str(target)!r}: a path cannot have a NUL character; choose another folder")
    resolved = Path(os.path.realpath(target))
    if not resolved.name:
        raise StorageError(f"cannot save to {resolved}: it is the root of a file system; choose a folder inside")
    return resolved


def _staging_beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.staging-{secrets.token_hex(8)}")


def lock_beside(target: Path, suffix: str = ".lock") -> Path:
    """The file to be locked for `target`; those of an adapter and of its run, `OUT` and `OUT.run`, are in one folder."""
    return target.with_name(f".{target.name.removesuffix('.run')}.locks") / f"{target.name}{suffix}"


def _backup(target: Path) -> Path:
    return target.with_name(f".{target.name}.backup")


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    try:
        lock = acquire(lock_beside(target), LOCK_TIMEOUT)
    except Timeout:  # a child of OSError, but "timed out" would tell nobody what to do
        raise StorageError(
            f"cannot save to {target}: another process has held {lock_beside(target)} for {LOCK_TIMEOUT:.0f} s; "
            "wait for it or end it"
        ) from None
    try:
        yield
    finally:
        release(lock)


def acquire(path: Path, timeout: float) -> FileLock:
    """Lock the file at `path`, which is made where it is missing, and its folder.

    Raises:
        Timeout: another has held it for so many seconds.
        OSError: it cannot be made.
    """
    while True:
        with suppress(FileExistsError):
            path.parent.mkdir()
        # Both mean that another released it, and took file and folder away just now.
        with suppress(FileNotFoundError, FileExistsError):
            # Made here, because the lock would take some failures to make it for another holder, and wait for that.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                lock = FileLock(path, timeout=timeout)
                lock.acquire()
                # What was locked is what lies there if that was there all the time.
                if _lies_at(path, descriptor):
                    return lock
                lock.release()
            finally:
                os.close(descriptor)


def _lies_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def release(lock: FileLock) -> None:
    """Release what `acquire` locked, and leave nothing behind."""
    path = Path(lock.lock_file)
    with suppress(OSError):  # Windows deletes no open file, and the folder may hold other locks
        path.unlink(missing_ok=True)
        path.parent.rmdir()
    lock.release()


def _make_parents(folder: Path) -> None:
    """Make `folder` and what is missing above it, each durable in its own parent."""
    if folder.is_dir():
        return
    _make_parents(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_directory(folder.parent)


def _sweep(target: Path) -> None:
    """Delete the staging directories of dead writers. Call with the lock held."""
    ours = re.compile(rf"\.{re.escape(target.name)}\.staging-[0-9a-f]{{16}}")
    for entry in list(target.parent.iterdir()):
        if ours.fullmatch(entry.name):
            shutil.rmtree(entry, ignore_errors=True)


def _recover(target: Path) -> None:
    """Finish or undo two renames that were interrupted. Call with the lock held."""
    backup = _backup(target)
    if not backup.is_dir():
        return
    if not os.path.lexists(target):
        backup.rename(target)
        sync_directory(target.parent)
    else:
        _discard(target)


def _discard(target: Path) -> None:
    """Delete a backup that has been replaced."""
    # Renamed first: a backup half deleted must never be taken for a good one.
    retired = _staging_beside(target)
    _backup(target).rename(retired)
    shutil.rmtree(retired, ignore_errors=True)


def _ordinary_permissions(staging: Path) -> None:
    """Give every file the permissions the umask asks for; some writers make theirs readable by their owner alone."""
    # The umask cannot be read without setting it for all threads; the directory, made by mkdir, shows its effect.
    mode = stat.S_IMODE(staging.stat().st_mode) & 0o666
    for folder, _, names in os.walk(staging):
        for name in names:
            path = Path(folder, name)
            file_mode = path.lstat().st_mode
            if stat.S_ISREG(file_mode) and stat.S_IMODE(file_mode) != mode:
                path.chmod(mode)


def _publish(staging: Path, target: Path) -> None:
    """Put `staging` at `target`, durably; `staging` is then free or holds the old directory."""
    if not os.path.lexists(target):
        _rename(staging, target)
    elif exchange(staging, target):
        try:
            sync_directory(target.parent)
        except OSError:
            exchange(staging, target)
            raise
    else:
        _rename_twice(staging, target)


def _rename(source: Path, target: Path) -> None:
    """Rename a directory, durably, or undo it: an error must mean that nothing has changed."""
    source.rename(target)
    try:
        sync_directory(target.parent)
    except OSError:
        target.rename(source)
        raise


def _rename_twice(staging: Path, target: Path) -> None:
    """Replace a directory where there is no exchange; `_recover` completes what is cut short here."""
    try:
        target.rename(_backup(target))
        staging.rename(target)
        sync_directory(target.parent)
    except OSError:
        if _backup(target).is_dir():
            if os.path.lexists(target):
                target.rename(staging)
            _backup(target).rename(target)
        raise
    except BaseException:  # Ctrl-C
        _recover(target)
        raise
    with suppress(OSError):  # the new one is in place; the next commit will see to the backup
        _discard(target)

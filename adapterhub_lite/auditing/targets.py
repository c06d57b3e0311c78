"""Where an audit may write: never over what it was read from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from adapterhub_lite.data.files.references import parse_reference
from adapterhub_lite.errors import ConfigError


def page_files(out: str | Path) -> list[Path]:
    """The page, and the rows beside it."""
    page = Path(out).expanduser()
    return [page, page.with_suffix(".rows.csv")]


def fix_files(fix: str | Path) -> list[Path]:
    """The repaired file, and the log beside it."""
    target = Path(fix).expanduser()
    return [target, target.with_name(f"{target.name}.log.csv")]


def check_files(option: str, targets: Sequence[Path], sources: Sequence[str]) -> None:
    """Refuse files that cannot be written, or that would be written over what was read, before anything is looked at.

    Args:
        option: How the user named them, such as "--fix rows.csv".
        targets: The files, from `page_files` or `fix_files`.
        sources: What was read, and other files that are to stay.

    Raises:
        ConfigError: naming the file.
    """
    for target in targets:
        for source in sources:
            if _is(target, Path(parse_reference(source)[0]).expanduser()):
                which = "is" if target == targets[0] else f"{target.name} beside it is"
                raise ConfigError(
                    f"{option}: {which} the data itself ({source}), which is never changed; give another name"
                )
        if target.is_dir() or not target.absolute().parent.is_dir():
            raise ConfigError(f"{option}: {'is a directory' if target.is_dir() else 'its folder does not exist'}")
        if not os.access(target.absolute().parent, os.W_OK):
            raise ConfigError(f"{option}: its folder cannot be written to; give another one")


def _is(target: Path, source: Path) -> bool:
    """Whether a file is the source under any name, or in the source where that is a folder."""
    with suppress(OSError, ValueError):  # a source may be no file at all, such as a list
        whole, read = target.resolve(), source.resolve()
        if whole == read or (target.exists() and source.exists() and target.samefile(source)):
            return True
        return target.exists() and read.is_dir() and read in whole.parents
    return False

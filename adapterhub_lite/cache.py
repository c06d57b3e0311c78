"""Where prepared bases and encoded features are kept between runs, and how much room the features take."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import platformdirs

from adapterhub_lite.errors import ConfigError

LIMIT = 10 * 10**9
"""Bytes that a folder of the cache takes unless `ADAPTERHUB_CACHE_LIMIT` says something else."""
_DAY = 86_400 * 10**9  # nanoseconds
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def cache_dir() -> Path:
    """The folder of the cache: `ADAPTERHUB_CACHE`, or the user's cache folder. Everything in it can be deleted."""
    chosen = os.environ.get("ADAPTERHUB_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("adapterhub_lite"))


def remembered(folder: str, key: str, pattern: str, work_out: Callable[[], str], *, anew: bool = False) -> str:
    """A short text that takes long to work out, kept in the cache; a cache that cannot be written costs time alone.

    Args:
        folder: Of the cache.
        key: All that the text depends on.
        pattern: What it looks like (a regular expression); anything else in the cache is worked out anew.
        work_out: Gives the text.
        anew: Work it out whatever is kept, and keep that.
    """
    note = cache_dir() / folder / hashlib.sha256(key.encode()).hexdigest()
    with suppress(OSError, ValueError):
        kept = note.read_text(encoding="ascii")
        if re.fullmatch(pattern, kept) and not anew:
            return kept
    text = work_out()
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(text, encoding="ascii")
    return text


def cache_limit() -> int:
    """The bytes that `ADAPTERHUB_CACHE_LIMIT` allows, given as a number or as a size such as 500MB; 10 GB by default.

    Raises:
        ConfigError: it is neither.
    """
    given = os.environ.get("ADAPTERHUB_CACHE_LIMIT", "").strip()
    return size_of(given, "ADAPTERHUB_CACHE_LIMIT") if given else LIMIT


def size_of(given: str, option: str) -> int:
    """The bytes of a size written as a number or as in 10GB, 8GiB or 500MB.

    Raises:
        ConfigError: it is neither; names the option.
    """
    read = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", given, re.ASCII | re.IGNORECASE)
    if read is None or read[2].lower() not in _UNITS:
        raise ConfigError(f"{option} is '{given}'; give a number of bytes, or a size such as 10GB or 500MB")
    return int(float(read[1]) * _UNITS[read[2].lower()])


def keep_below(folder: Path, limit: int) -> None:
    """Delete the files of a folder that were not used for the longest, until the others take at most `limit` bytes.

    When a file was used is the time of its last change, so whoever uses one touches it. Unfinished ones, with `.tmp` in
    their names, do not count, and are deleted when they are a day old. Other processes may do the same at the same time;
    what cannot be deleted stays.
    """
    entries, total, yesterday = [], 0, time.time_ns() - _DAY
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):  # another process deleted it
                facts = path.stat()
                if ".tmp" not in path.name:
                    entries.append((facts.st_mtime_ns, path, facts.st_size))
                    total += facts.st_size
                elif facts.st_mtime_ns < yesterday:
                    path.unlink()
    for _, path, size in sorted(entries):
        if total <= limit:
            return
        with suppress(OSError):
            path.unlink(missing_ok=True)
            total -= size

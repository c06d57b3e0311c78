"""A folder with one folder of text files a class."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

from adapterhub_lite.api import DataError, FileOptions, RowBuilder, Table, counted, encoding_of, undecodable

SUFFIXES = (".txt", ".text", ".md", "")
SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


def holds_texts(source: Any) -> bool:
    """Whether a source is a folder with text files in it or in its folders, and nothing there is a table."""
    if not isinstance(source, (str, os.PathLike)) or not Path(source).is_dir():
        return False
    names = [path for path in Path(source).iterdir() if not path.name.startswith(".")]
    return all(path.is_dir() or path.suffix.lower() in SUFFIXES for path in names)


def read_text_folder(source: Any, files: FileOptions, required: bool) -> Table:
    """Read every text file in the class folders of a folder: its name, its text, and the name of its folder as label.

    Hidden files and those of other kinds are left out, and counted. Without class folders there are no labels, which
    is an error where they are required.

    Raises:
        DataError: a folder of splits, one without texts, or a file that is no text, by its name.
        ConfigError: options that are for other files.
    """
    name, root = os.fspath(source), Path(source)
    files.check(name, "folder")
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    splits = [folder.name for folder in folders if folder.name.lower() in SPLITS]
    if splits and len(splits) == len(folders):
        raise DataError(
            f"{name}: holds splits ({', '.join(splits)}); give one of them, such as {str(root / splits[0])!r}"
        )
    loose = [path for path in root.iterdir() if path.is_file() and path.name[:1] != "."] if folders else []
    left_out: Counter[str] = Counter()
    total, rows, count = hashlib.sha256(), RowBuilder(name), 0
    for folder in folders or [root]:
        for path in sorted(folder.rglob("*") if folders else folder.iterdir()):
            relative = path.relative_to(root)
            if not path.is_file() or any(part.startswith(".") for part in relative.parts):
                continue
            if path.suffix.lower() not in SUFFIXES:
                left_out[path.suffix.lower()] += 1
                continue
            text, digest = _read(path, files.encoding)
            total.update(relative.as_posix().encode("utf-8", "surrogateescape") + b"\0" + digest)
            labelled = {"label": folder.name} if folders else {}
            rows.add({"file": relative.as_posix(), "text": text, **labelled}, len(text))
            count += 1
    if not count:
        raise DataError(
            f"{name}: is a folder; it holds no table, and no text files ({' '.join(SUFFIXES)}) in class folders"
        )
    if required and not folders:
        raise DataError(f"{name}: its texts stand in no class folder; put those of each class into a folder of its own")
    notes = [f"{name}: {counted(len(loose), 'file')} outside the class folders left out"] if loose else []
    if left_out:
        kinds = ", ".join(f"{number} {suffix}" for suffix, number in left_out.most_common(5))
        notes.append(f"{name}: {counted(left_out.total(), 'file')} of other kinds left out ({kinds})")
    below = (path for path in root.rglob("*") if path.is_file())
    hidden = sum(any(part.startswith(".") for part in path.relative_to(root).parts) for path in below)
    if hidden:
        notes.append(f"{name}: {counted(hidden, 'hidden file')} left out")
    return Table(name, rows.finish(), total.hexdigest(), notes=tuple(notes), mapped=rows.mapped)


def _read(path: Path, encoding: str | None) -> tuple[str, bytes]:
    """A file's text, and the SHA-256 of its bytes."""
    try:
        content = path.read_bytes()
        text = content.decode(encoding or encoding_of(path, str(path)))
    except UnicodeDecodeError as error:
        raise undecodable(path, str(path), encoding) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    if not text.strip():
        raise DataError(f"{path}: is empty; write a text into it, or remove it")
    if "\0" in text:
        raise DataError(f"{path}: has a NUL character; remove it, or the file if it is no text")
    return text, hashlib.sha256(content).digest()

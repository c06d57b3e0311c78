"""A folder with one folder of images a class."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pyarrow as pa

from adapterhub_images.image import SUFFIXES, check_image
from adapterhub_lite.api import DataError, Table, counted, place

SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


def read_image_folder(name: str, require_labels: bool) -> tuple[Table, list[Path], dict[str, str]]:
    """Read the images below a folder, labelled by their class folder.

    A folder without class folders is read only where labels are not required.
    """
    root = Path(name).expanduser()
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    loose = sorted(entry for entry in root.iterdir() if entry.is_file() and entry.suffix.lower() in SUFFIXES)
    splits = [folder.name for folder in folders if folder.name.lower() in SPLITS]
    if splits and len(splits) == len(folders):
        raise DataError(
            f"{name}: holds splits ({', '.join(splits)}); give one of them, such as {str(root / splits[0])!r}"
        )
    if not folders and loose and require_labels:
        raise DataError(
            f"{name}: its images stand in no class folder; put those of each class into a folder of its own"
        )
    notes = []
    paths: list[Path] = [] if folders else loose
    labels: list[str] = []
    skipped: Counter[str] = Counter()
    for folder in folders:
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path, folder))
        images = [path for path in files if path.suffix.lower() in SUFFIXES]
        skipped.update(path.suffix.lower() or path.name for path in files if path.suffix.lower() not in SUFFIXES)
        paths += images
        labels += [folder.name] * len(images)
        if not images:
            notes.append(f"{name}: folder {folder.name!r} holds no images and is no class")
    if not paths:
        raise DataError(f"{name}: holds no images ({' '.join(SUFFIXES)}) in class folders; check the path")
    if folders and loose:
        notes.append(f"{name}: {counted(len(loose), 'image')} outside the class folders left out")
    if skipped:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in skipped.most_common(5))
        notes.append(f"{name}: {counted(skipped.total(), 'file')} of other kinds left out ({kinds})")
    hidden = sum(path.is_file() and _hidden(path, root) for path in root.rglob("*"))
    if hidden:
        notes.append(f"{name}: {counted(hidden, 'hidden file')} left out")
    relative = [path.relative_to(root).as_posix() for path in paths]
    columns = {"image": relative} | ({"label": labels} if folders else {})
    sha256 = _digest(name, root, relative)
    arrow = pa.table({key: pa.array(values, pa.utf8()) for key, values in columns.items()})
    table = Table(name, arrow, sha256, notes=tuple(notes))
    return table, paths, {key: key for key in columns}


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _digest(name: str, root: Path, relative: list[str]) -> str:
    total = hashlib.sha256()
    for row, path in enumerate(relative):
        try:
            with (root / path).open("rb") as file:
                if not file.peek(1):
                    raise DataError(
                        f"{place(name, row)}: image {str(root / path)!r} is an empty file; replace or remove it"
                    )
                wrong = check_image(file)
                if wrong is not None:
                    raise DataError(f"{place(name, row)}: image {str(root / path)!r} {wrong}")
                file.seek(0)
                total.update(path.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
        except UnicodeEncodeError as error:
            raise DataError(f"{place(name, row)}: file name {path!r} is not UTF-8; rename the file") from error
        except OSError as error:
            raise DataError(
                f"{place(name, row)}: image {str(root / path)!r} cannot be read ({error.strerror})"
            ) from error
    return total.hexdigest()

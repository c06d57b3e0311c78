"""Images with one label each, or any number of them: a folder of class folders, a table of paths, or an .npz of arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapterhub_images.arrays import read_arrays
from adapterhub_images.folder import read_image_folder
from adapterhub_images.image import ImageBytes, check_image
from adapterhub_images.options import ROLES, TASK
from adapterhub_lite.api import (
    DataError,
    Dataset,
    Request,
    Table,
    check_roles,
    columns_shown,
    counted,
    existing,
    find_column,
    guess_column,
    is_missing,
    parse_reference,
    read_choices,
    read_groups,
    read_items,
    read_table,
)

IMAGE_NAMES = ("image", "image_path", "path", "file", "filename", "file_name", "filepath", "file_path", "img", "images")
LABEL_NAMES = ("label", "category", "class", "target", "labels", "diagnosis", "class_label", "y")


def read(source: Any, request: Request) -> Dataset:
    """Read labelled images and check that each file is there; see `load_data`. Pixels are read by `open_image`."""
    given, require_labels = request.columns, request.require_labels
    check_roles(given, ROLES, TASK)
    declared: tuple[str, ...] | None = None
    inputs: Sequence[Any]
    if isinstance(source, (str, os.PathLike)) and parse_reference(os.fspath(source))[0].lower().endswith(".npz"):
        table, inputs, used, declared = read_arrays(os.fspath(source), given, require_labels and "labels" not in given)
    elif isinstance(source, (str, os.PathLike)) and _is_image_folder(parse_reference(os.fspath(source))[0]):
        table, inputs, used = read_image_folder(os.fspath(source), require_labels)
    else:
        table = read_table(source)
        used = _choose_columns(table, given, require_labels)
        inputs = _images(table, used["image"])
    if "labels" in given:
        used = {role: name for role, name in used.items() if role != "label"} | {"labels": given["labels"]}
    if "group" in given:
        used = {**used, "group": find_column(table, given["group"], "group")}
    used, form, labels = read_choices(table, used, request, declared)
    notes = table.notes + labels.notes
    return Dataset(
        TASK, inputs, labels.targets, labels.names, used, table.source, table.sha256, table, notes, form,
        groups=read_groups(table, used, required=require_labels), unknown=labels.unknown,
    )  # fmt: skip


def _is_image_folder(name: str) -> bool:
    path = existing(name)
    return path.is_dir() and not (path / "state.json").is_file() and not (path / "dataset_dict.json").is_file()


def _choose_columns(table: Table, given: Mapping[str, str], require_labels: bool) -> dict[str, str]:
    used = {role: name if role == "labels" else find_column(table, name, role) for role, name in given.items()}
    for role, names in (("image", IMAGE_NAMES), ("label", LABEL_NAMES)):
        if role == "label" and "labels" in used:
            continue
        name = used.get(role) or guess_column(table, names, tuple(used.values()))
        if name is not None:
            used[role] = name
        elif role == "image" or require_labels:
            raise DataError(
                f"{table.source}: cannot tell which column is the {role}; "
                f"name one with --{role}-column (columns={{{role!r}: NAME}} in Python): {columns_shown(table)}"
            )
    return used


def _images(table: Table, column: str) -> Sequence[Any]:
    """Each row's image: a path beside the table, or the encoded bytes that `datasets` keeps in a column."""
    folder = Path() if table.source.startswith("<") else Path(table.source).expanduser().parent
    images: list[Any] = []
    wrong: list[str] = []
    if table.mapped:
        return read_items(table, [column], lambda row, value: _checked(value, folder, table.where(row, column)))
    for row, value in enumerate(table.column(column)):
        where = table.where(row, column)
        item, reason = _image(value, folder, where)
        images.append(item)
        if reason is not None:
            wrong.append(f"{where}: {reason}")
    if wrong:
        raise DataError(wrong[0] + (f" (and {counted(len(wrong) - 1, 'more row')} like it)" if len(wrong) > 1 else ""))
    return images


def _checked(value: Any, folder: Path, where: str) -> Any:
    item, reason = _image(value, folder, where)
    if reason is not None:
        raise DataError(f"{where}: {reason}")
    return item


def _image(value: Any, folder: Path, where: str) -> tuple[Any, str | None]:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes) and value:
        wrong = check_image(value)
        image = ImageBytes(value)
        image.where = where
        return image, None if wrong is None else f"image {wrong}"
    if is_missing(value) or not value:
        return None, "image is missing; fill it in or remove the row"
    if not isinstance(value, str) or "\0" in value:
        return None, f"image is of type {type(value).__name__}, not a path; choose a column of paths"
    path = folder / value
    if not path.is_file():
        return None, f"no such image {str(path)!r}; paths are relative to the table's folder"
    if path.stat().st_size == 0:
        return None, f"image {str(path)!r} is an empty file; replace it or remove the row"
    wrong = check_image(path)
    return path, None if wrong is None else f"image {str(path)!r} {wrong}"

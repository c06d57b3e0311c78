"""Images in .npz files as others publish them: arrays of its own for each split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapterhub_lite.data.files import npz
from adapterhub_lite.errors import DataError
from tests.reading import load_data

TASK = "image-classification"


def write_medmnist(path: Path, **more: np.ndarray) -> Path:
    """A file as MedMNIST publishes it: arrays of its own for each split, labels of shape (n, 1)."""
    arrays = {}
    for split, count in (("train", 6), ("val", 2), ("test", 4)):
        arrays[f"{split}_images"] = np.full((count, 8, 8, 3), count, np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % 2)[:, None]
    np.savez(path, **{**arrays, **more})
    return path


def test_medmnist_has_arrays_for_each_split(tmp_path: Path) -> None:
    path = write_medmnist(tmp_path / "bloodmnist.npz")
    with pytest.raises(
        DataError, match=r"each split has arrays of its own; give one of #train, #val, #test, as in '.*npz#train'"
    ):
        load_data(path, TASK)
    with pytest.raises(DataError, match="no split is called 'valid'; give one of #train"):
        load_data(f"{path}#valid", TASK)
    for split, count in (("train", 6), ("val", 2), ("test", 4)):
        data = load_data(f"{path}#{split}", TASK)
        assert (len(data), data.labels, data.targets) == (count, ("0", "1"), (0, 1) * (count // 2))
        assert data.inputs[0].shape == (8, 8, 3)
        assert (data.inputs[0] == count).all()
        assert data.columns == {"image": "images", "label": "labels"}
        assert not any("not used" in note for note in data.notes)


def test_classes_are_common_to_all_splits(tmp_path: Path) -> None:
    path = write_medmnist(tmp_path / "a.npz", classes=np.array(["round", "flat"]))
    assert load_data(f"{path}#val", TASK).labels == ("round", "flat")


def test_labels_of_a_0_or_1_for_each_class(tmp_path: Path) -> None:
    several = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0]], np.uint8)
    path = write_medmnist(tmp_path / "chestmnist.npz", test_labels=several)
    data = load_data(f"{path}#test", TASK)
    assert (data.form, data.labels) == ("several", ("0", "1", "2"))
    assert data.targets == ((0, 2), (), (1,), (0,))


def test_the_names_of_keras(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    images, labels = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    np.savez(path, x_train=images, y_train=labels, x_test=images[:2], y_test=labels[:2])
    assert load_data(f"{path}#train", TASK).targets == (0, 1, 0, 1)
    assert load_data(f"{path}#test", TASK).columns == {"image": "x", "label": "y"}


def test_only_the_arrays_of_the_split_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_medmnist(tmp_path / "a.npz")
    read: list[str] = []
    inner = npz._array
    monkeypatch.setattr(npz, "_array", lambda file, key: read.append(key) or inner(file, key))
    load_data(f"{path}#val", TASK)
    assert read == ["val_images", "val_labels"]

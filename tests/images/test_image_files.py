"""Images from folders, tables and arrays, and opening every kind of file as RGB."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from adapterhub_images.image import open_image
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import DataError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.tasks.catalog import Catalog, read_data

TASK = "image-classification"
CATALOG = Catalog(Plugins())
SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def load(source: Any, **options: Any) -> Dataset:
    return read_data(CATALOG, source, TASK, **options)


def picture(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), colour).save(path)
    return path


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    for name in ("dogs/b.png", "cats/a.JPG", "dogs/deep/c.bmp", "loose.png"):
        picture(tmp_path / name)
    (tmp_path / "cats" / "notes.txt").write_text("x")
    (tmp_path / "birds").mkdir()
    for name in ("cats/._a.png", ".thumbs/b.png", ".DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    dataset = load(tmp_path)
    assert dataset.inputs == [
        tmp_path / "cats" / "a.JPG",
        tmp_path / "dogs" / "b.png",
        tmp_path / "dogs" / "deep" / "c.bmp",
    ]
    assert (dataset.labels, dataset.targets) == (("cats", "dogs"), (0, 1, 1))
    assert dataset.table is not None
    assert dataset.table.column("image") == ["cats/a.JPG", "dogs/b.png", "dogs/deep/c.bmp"]
    assert dataset.notes[:4] == (
        f"{tmp_path}: folder 'birds' holds no images and is no class",
        f"{tmp_path}: 1 image outside the class folders left out",
        f"{tmp_path}: 1 file of other kinds left out (1 .txt)",
        f"{tmp_path}: 3 hidden files left out",
    )
    before = dataset.sha256
    picture(tmp_path / "cats" / "a.JPG", "blue")
    assert load(tmp_path).sha256 != before


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images"):
        load(tmp_path)
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match="stand in no class folder"):
        load(tmp_path)
    assert load(tmp_path, require_labels=False).targets is None
    picture(tmp_path / "split" / "train" / "cats" / "a.png")
    with pytest.raises(DataError, match=r"holds splits \(train\); give one of them, such as '.*train'"):
        load(tmp_path / "split")
    with pytest.raises(DataError, match="every row has label 'cats'"):
        load(tmp_path / "split" / "train")
    (tmp_path / "split" / "train" / "cats" / "b.png").touch()
    with pytest.raises(DataError, match=r"row 2: image '.*b\.png' is an empty file"):
        load(tmp_path / "split" / "train")


def test_a_table_of_paths(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "images" / "b.png")
    path = tmp_path / "labels.csv"
    path.write_text(f"path,label\nimages/a.png,x\n{tmp_path}/images/b.png,y\n")
    dataset = load(path)
    assert list(dataset.inputs) == [tmp_path / "images" / "a.png", tmp_path / "images" / "b.png"]
    assert (dataset.columns, dataset.targets) == ({"image": "path", "label": "label"}, (0, 1))
    (tmp_path / "images" / "empty.png").touch()
    for bad, message in (
        ("images/c.png", r"no such image '.*c\.png'"),
        ("images/empty.png", "is an empty file"),
        ("images", "no such image"),
        ("", "image is missing"),
    ):
        path.write_text(f"path,label\nimages/a.png,x\n{bad},y\n{bad},y\n")
        with pytest.raises(
            DataError, match=rf"labels\.csv, row 2 \(line 3\), column 'path': .*{message}.*and 1 more row like it"
        ):
            load(path)
    with pytest.raises(DataError, match=r"images/a\.png: files of type \.png are not read"):
        load(tmp_path / "images" / "a.png")


def test_encoded_bytes_as_datasets_keeps_them() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), "blue").save(buffer, "PNG")
    import pyarrow as pa

    image = {"bytes": buffer.getvalue(), "path": None}
    dataset = load(pa.table({"image": [image, image], "label": ["a", "b"]}))
    assert open_image(dataset.inputs[0]).getpixel((0, 0)) == (0, 0, 255)


def arrays(path: Path, **changes: Any) -> Path:
    whole: dict[str, Any] = {
        "images": np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3),
        "labels": np.array([2, 0, 2, 0]),
        "classes": np.array(["zebra", "ant", "bee"]),
        "split": np.array([0, 0, 1, 2], dtype=np.uint8),
        "patient": np.array(["p", "q", "r", "s"]),
    }
    np.savez(path, **{key: value for key, value in (whole | changes).items() if value is not None})
    return path


def test_arrays_and_their_splits(tmp_path: Path) -> None:
    path = arrays(tmp_path / "a.npz")
    dataset = load(path)
    assert (dataset.labels, dataset.targets) == (("zebra", "bee"), (1, 0, 1, 0))
    assert dataset.notes == ("column 'labels': 1 declared class without rows: ant",)
    train, test = load(f"{path}#train"), load(f"{path}#test", labels=dataset.labels)
    assert (train.targets, test.targets, len(load(f"{path}#val", labels=dataset.labels))) == ((1, 0), (0,), 1)
    assert test.table is not None
    assert test.table.column("patient") == ["s"]
    assert test.table.where(0, "labels") == f"{path}#test, row 4, column 'labels'"
    assert train.sha256 == test.sha256 == dataset.sha256
    assert open_image(test.inputs[0]).size == (2, 2)
    named = load(arrays(tmp_path / "b.npz", labels=np.array(["x", "y", "x", "y"]), classes=None))
    assert (named.labels, named.targets) == (("x", "y"), (0, 1, 0, 1))
    assert load(arrays(tmp_path / "c.npz", labels=None), require_labels=False).targets is None


@pytest.mark.parametrize(
    ("changes", "suffix", "message"),
    [
        ({"images": None}, "", "has no array 'images'; it has labels"),
        ({"labels": None}, "", "has no array 'labels'"),
        ({"images": np.zeros((4, 2, 2), dtype=np.float32)}, "", "array 'images': is float32 (4, 2, 2)"),
        ({"images": np.zeros((4, 2), dtype=np.uint8)}, "", "array 'images': is uint8 (4, 2)"),
        ({"labels": np.array([0, 1])}, "", "array 'labels': has shape (2,), not one label for each of 4 images"),
        ({"labels": np.array(3)}, "", "array 'labels': has shape (), not one label"),
        ({"labels": np.array([0, 7, 1, 1])}, "", "row 2, column 'labels': label 7 has no name"),
        ({"labels": np.array([0, 1, None, 1], dtype=object)}, "", "not a readable .npz of plain arrays"),
        ({"split": None}, "#train", "has no array 'split'"),
        ({"split": np.array([0, 5, 0, 0])}, "#train", "row 2, column 'split': is 5"),
        ({"split": np.array([0, 0, 0, 0])}, "#val", "no row has 1 in the array 'split'"),
        ({}, "#dev", "no split is called 'dev'"),
    ],
)
def test_bad_arrays(tmp_path: Path, changes: dict[str, Any], suffix: str, message: str) -> None:
    path = arrays(tmp_path / "a.npz", **changes)
    with pytest.raises(DataError) as caught:
        load(f"{path}{suffix}")
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"a\.npz: not a readable \.npz"):
        load(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"b\.npz: no such file; did you mean"):
        load(f"{tmp_path}/b.npz#train")


def saved(tmp_path: Path, image: Image.Image, name: str, **options: Any) -> tuple[int, ...]:
    image.save(tmp_path / name, **options)
    opened = open_image(tmp_path / name)
    assert opened.mode == "RGB"
    pixel = opened.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    assert saved(tmp_path, Image.new("RGBA", (2, 2), (255, 0, 0, 0)), "clear.png") == (255, 255, 255)
    assert saved(tmp_path, Image.new("LA", (2, 2), (0, 0)), "grey.png") == (255, 255, 255)
    assert saved(tmp_path, Image.new("RGB", (2, 2), "red").convert("P"), "palette.png") == (255, 0, 0)
    clear = Image.new("P", (2, 2), 0)
    clear.putpalette([255, 0, 0])
    assert saved(tmp_path, clear, "clear_palette.png", transparency=0) == (255, 255, 255)
    assert saved(tmp_path, Image.new("1", (2, 2), 1), "bits.png") == (255, 255, 255)
    assert saved(tmp_path, Image.new("CMYK", (2, 2), (0, 0, 0, 0)), "print.tif") == (255, 255, 255)
    sixteen = Image.fromarray(np.array([[65535, 0], [32768, 257]], dtype=np.uint16))
    sixteen.save(tmp_path / "sixteen.png")
    assert np.asarray(open_image(tmp_path / "sixteen.png"))[:, :, 0].tolist() == [[255, 0], [128, 1]]
    Image.fromarray(np.full((1, 1), 200, dtype=np.uint16)).save(tmp_path / "dark.png")
    assert open_image(tmp_path / "dark.png").getpixel((0, 0)) == (1, 1, 1)
    floats = Image.fromarray(np.array([[1.0, 0.0]], dtype=np.float32))
    assert saved(tmp_path, floats, "float.tif") == (255, 255, 255)


def test_the_rotation_of_the_camera_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 2), "white")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert open_image(str(tmp_path / "turned.jpg")).size == (2, 4)


def test_arrays_and_objects_open() -> None:
    assert open_image(np.full((2, 3), 7, dtype=np.uint8)).getpixel((0, 0)) == (7, 7, 7)
    assert open_image(np.full((2, 3, 1), 7, dtype=np.uint8)).size == (3, 2)
    assert open_image(np.zeros((2, 3, 4), dtype=np.uint8)).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(Image.new("L", (2, 2), 9)).getpixel((0, 0)) == (9, 9, 9)


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    whole = picture(tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("text.png", "cut.png", "absent.png"):
        with pytest.raises(DataError, match=rf"{name}: not a readable image \(.+\); replace or remove it"):
            open_image(tmp_path / name)
    (tmp_path / "odd.dds").write_bytes(b"DDS " + struct.pack("<4I", 124, 0x1007, 4, 4) + bytes(108))
    with pytest.raises(DataError, match="not a readable image"):
        open_image(tmp_path / "odd.dds")
    for item in (None, 7, np.zeros((2, 2), dtype=np.float32), b"no image"):
        with pytest.raises(DataError, match="not a readable image"):
            open_image(item)


def test_what_is_no_image_is_found_when_the_rows_are_read(tmp_path: Path) -> None:
    good = picture(tmp_path / "cat" / "good.png").read_bytes()
    (tmp_path / "cat" / "page.png").write_text("<html>not found</html>")
    picture(tmp_path / "dog" / "b.png")
    with pytest.raises(DataError, match=r"row 2: image '.*page\.png' is not a readable image"):
        load(tmp_path)
    (tmp_path / "rows.csv").write_text("image,label\ncat/good.png,cat\ncat/page.png,dog\n")
    with pytest.raises(DataError, match=r"row 2 \(line 3\), column 'image': image '.*page\.png' is not a readable"):
        load(tmp_path / "rows.csv")
    rows = [{"image": {"bytes": good}, "label": "a"}, {"image": {"bytes": b"no image"}, "label": "b"}]
    with pytest.raises(DataError, match=r"row 2, column 'image': image is not a readable image"):
        load(pa.Table.from_pylist(rows))


def test_bytes_cut_short_name_their_row_when_pixels_are_needed(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 90).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    rows = [{"image": {"bytes": whole}, "label": "a"}, {"image": {"bytes": whole[: len(whole) // 2]}, "label": "b"}]
    data = load(pa.Table.from_pylist(rows))
    assert open_image(data.inputs[0]).size == (64, 64)
    with pytest.raises(DataError, match=r"row 2, column 'image': not a readable image \(.+\); replace or remove it"):
        open_image(data.inputs[1])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_huge_image_is_refused_by_its_size_and_not_unpacked(tmp_path: Path) -> None:
    # 100 and 200 megapixels, of which Pillow warns about the one and refuses the other; 12 kB on disk.
    for side, said in (
        (10_000, "10000 x 10000 pixels, more than 89,478,485"),
        (14_200, "more than 178,956,970 pixels"),
    ):
        path = tmp_path / f"{side}.png"
        Image.new("1", (side, side)).save(path)
        with pytest.raises(DataError, match=rf"{side}\.png: has {said}; make it smaller"):
            open_image(path)
        (tmp_path / "rows.csv").write_text(f"image,label\n{path.name},a\n")
        with pytest.raises(DataError, match=rf"row 1 .*{side}\.png' has {said}"):
            load(tmp_path / "rows.csv")


def test_images_with_several_labels(tmp_path: Path) -> None:
    pixels = np.zeros((3, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "x.npz", images=pixels, red=[1, 0, 1], round=[1, 0, 0], patient=[7, 7, 8])
    dataset = load(tmp_path / "x.npz", columns={"labels": "red,round", "group": "patient"})
    assert (dataset.labels, dataset.targets, dataset.groups) == (("red", "round"), ((0, 1), (), (0,)), (7, 7, 8))
    Image.fromarray(pixels[0]).save(tmp_path / "a.png")
    rows = [{"image": "a.png", "labels": ["red"]}, {"image": "a.png", "labels": []}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert load(tmp_path / "rows.jsonl").targets == ((0,), ())


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"real data not found in {SHARED}")
def test_real_arrays() -> None:
    path = SHARED / "bccd" / "bccd_crops64.npz"
    sizes = {name: len(load(f"{path}#{name}")) for name in ("train", "val", "test")}
    assert sizes == {"train": 1014, "val": 419, "test": 347}
    assert load(path).labels == ("RBC", "WBC", "Platelets")

"""Data that does not fit in memory lies in a file, and is what it would be in memory."""

from __future__ import annotations

import errno
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import adapterhub_lite as ah
from adapterhub_lite.cache import cache_dir
from adapterhub_lite.data import spill
from adapterhub_lite.data.files.read import read_table
from adapterhub_lite.data.items import Items
from adapterhub_lite.data.write import write_rows
from adapterhub_lite.errors import DataError, StorageError
from adapterhub_lite.tasks.stored import StoredExamples, reweighed, without_targets
from tests.reading import load_data


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called, everything is too large."""
    return lambda: monkeypatch.setattr(spill, "ROOM", 0)


def as_parquet(table: pa.Table, path: Path) -> Path:
    parquet.write_table(table, path, row_group_size=100)
    return path


def as_arrow_file(table: pa.Table, path: Path) -> Path:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    return path


def as_arrow_stream(table: pa.Table, path: Path) -> Path:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    return path


def as_json(table: pa.Table, path: Path) -> Path:
    import json

    path.write_text("\n".join(map(json.dumps, table.to_pylist())), encoding="utf-8")
    return path


def as_json_array(table: pa.Table, path: Path) -> Path:
    import json

    path.write_text(json.dumps(table.to_pylist()), encoding="utf-8")
    return path


def as_saved_dataset(table: pa.Table, path: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset(table).save_to_disk(str(path), num_shards=2)
    return path


WRITERS: dict[str, Callable[[pa.Table, Path], Path]] = {
    "a.parquet": as_parquet,
    "a.arrow": as_arrow_file,
    "a.feather": as_arrow_stream,
    "a.jsonl": as_json,
    "a.json": as_json_array,
    "a": as_saved_dataset,
}


@pytest.mark.parametrize("name", ["a.csv", *WRITERS])
def test_every_format_is_read_as_in_memory(
    name: str, shared: Path, tmp_path: Path, no_room: Callable[[], None]
) -> None:
    source: Path = shared / "data" / "banking77" / "test.csv"
    if name != "a.csv":
        source = WRITERS[name](load_data(source, "text-classification").table.arrow, tmp_path / name)
    small = load_data(source, "text-classification")
    no_room()
    large = load_data(source, "text-classification")
    assert isinstance(large.inputs, Items)
    assert not isinstance(small.inputs, Items)
    assert (list(large.inputs), large.targets, large.labels) == (list(small.inputs), small.targets, small.labels)
    assert (large.sha256, large.columns, large.notes) == (small.sha256, small.columns, small.notes)
    chosen = [3000, 7, 7, 2999]
    part, known = large.select(chosen).select([3, 0]), small.select(chosen).select([3, 0])
    assert list(part.inputs) == list(known.inputs)
    assert part.inputs[-1] == known.inputs[-1]
    assert part.table is not None
    assert known.table is not None
    assert [part.table.where(row) for row in (0, 1)] == [known.table.where(row) for row in (0, 1)]
    assert part.table.column(part.columns["text"]) == known.table.column(known.columns["text"])


def test_lists_and_odd_columns_come_back(tmp_path: Path, no_room: Callable[[], None]) -> None:
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": f"a {i}"}, {"role": "assistant", "content": "b"}], "n": i}
        for i in range(5000)  # more than a batch of the reader
    ]
    rows[4999] |= {"n": "many", "late": 1.5}
    source = as_json(pa.table({"row": []}), tmp_path / "chats.jsonl")
    import json

    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    no_room()
    data = load_data(source, "causal-lm")
    assert [item.messages[0].content for item in data.inputs] == [f"a {i}" for i in range(5000)]
    assert data.table is not None
    assert data.table.column("n") == [*range(4999), "many"]
    assert data.table.column("late") == [*[None] * 4999, 1.5]


def test_rows_taken_from_a_mapped_table_are_those(tmp_path: Path, no_room: Callable[[], None]) -> None:
    source = tmp_path / "a.csv"
    source.write_text("series,time,x,label\n" + "".join(f"{i // 5},{i},{i * i},{i // 10 % 2}\n" for i in range(100)))
    small = read_table(source)
    no_room()
    large, rows = read_table(source), [*range(99, 49, -1), 3]
    assert large.mapped
    for one, other in ((large, small), (large.take(rows), small.take(rows))):
        write_rows(tmp_path / "large.parquet", one, {"said": list(range(len(one)))})
        write_rows(tmp_path / "small.parquet", other, {"said": list(range(len(one)))})
        assert parquet.read_table(tmp_path / "large.parquet") == parquet.read_table(tmp_path / "small.parquet")
    series, known = (ah.load_data(source.take(rows[:50]), "series-classification") for source in (large, small))
    assert [values.tolist() for values in series.inputs] == [values.tolist() for values in known.inputs]


def test_columns_of_dictionaries_and_wide_rows(tmp_path: Path, no_room: Callable[[], None]) -> None:
    kinds = pa.array([f"kind {i % 300}" for i in range(3000)]).dictionary_encode()
    table = pa.table({"text": [f"text {i} " + "x" * 20_000 for i in range(3000)], "label": kinds})
    small = load_data(table, "text-classification")
    for name in ("a.parquet", "a.arrow", "a.feather"):
        source = WRITERS[name](table, tmp_path / name)
        no_room()
        before = pa.total_allocated_bytes()
        large = load_data(source, "text-classification")
        assert pa.total_allocated_bytes() - before < 30_000_000  # of 60
        assert (large.targets, large.labels) == (small.targets, small.labels)
        assert large.inputs[2999] == small.inputs[2999]


def test_a_bad_row_is_found_before_training_and_named(tmp_path: Path, no_room: Callable[[], None]) -> None:
    source = tmp_path / "a.csv"
    source.write_text("text,label\n" + "".join(f"t{i},{i % 2}\n" for i in range(6000)) + ",1\n", encoding="utf-8")
    no_room()
    with pytest.raises(DataError, match=r"a\.csv, row 6001 \(line 6002\), column 'text': text is empty"):
        load_data(source, "text-classification")


@pytest.mark.parametrize("packed", [True, False])
def test_images_in_arrays(packed: bool, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with np.load(shared / "data" / "bccd" / "bccd_crops64.npz") as file:
        arrays = {key: file[key] for key in file.files}
    arrays["images"] = np.asfortranarray(arrays["images"][:200])
    arrays |= {key: arrays[key][:200] for key in arrays if len(arrays[key]) > 200}
    source = tmp_path / "cells.npz"
    (np.savez_compressed if packed else np.savez)(source, **arrays)
    small = ah.load_data(source, "image-classification")
    monkeypatch.setattr(spill, "ROOM", 100_000)
    large = ah.load_data(source, "image-classification")
    assert np.array_equal(np.stack(small.inputs), np.stack(large.inputs))
    assert not large.inputs[0].flags.owndata
    assert small.targets == large.targets


def test_an_array_cut_short_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "cells.npz"
    np.savez(source, images=np.zeros((9, 8, 8, 3), np.uint8), labels=np.arange(9) % 2)
    content = source.read_bytes()
    source.write_bytes(content.replace(bytes(100), bytes(99) + b"x", 1))
    monkeypatch.setattr(spill, "ROOM", 1000)
    with pytest.raises(DataError, match=r"cells\.npz: not a readable .npz"):
        ah.load_data(source, "image-classification")


def tokens_of(examples: Any) -> list[tuple[Any, ...]]:
    return [(example.inputs, example.target, example.length, example.weight, example.rows) for example in examples]


@pytest.mark.parametrize("kind", ["texts", "pairs", "weighed", "completions"])
def test_examples_are_what_they_are_in_memory(
    kind: str, shared: Path, engine: Any, base: Callable[..., Any], no_room: Callable[[], None], sums: Any
) -> None:
    bank = load_data(shared / "data" / "banking77" / "test.csv", "text-classification").select(range(0, 3080, 2))
    rows = [{"text": text, "text_pair": text[::-1], "label": i % 3} for i, text in enumerate(bank.inputs)]
    data, model, options = {
        "texts": (bank, "minilm", {"max_length": 16}),
        "weighed": (bank, "minilm", {"class_weights": "balanced"}),
        "pairs": (load_data(rows, "text-classification"), "minilm", {}),
        "completions": (sums(40), "smollm2-4", {"max_length": 64}),
    }[kind]
    loaded = base(model)
    task = engine.task_for(loaded, data, options)
    small = task.balance(task.encode(data, loaded))
    no_room()
    large = task.balance(task.encode(data, loaded))
    assert isinstance(large.examples, StoredExamples)
    assert isinstance(small.examples, list)
    assert tokens_of(large.examples) == tokens_of(small.examples)
    assert tokens_of(large.examples[-3:]) == tokens_of(small.examples[-3:])
    assert (large.notes, large.rows) == (small.notes, small.rows)
    assert tokens_of(without_targets(large.examples)) == tokens_of(without_targets(small.examples))
    weights = [float(i) for i in range(len(small.examples))]
    assert tokens_of(reweighed(large.examples, weights)) == tokens_of(reweighed(small.examples, weights))
    with pytest.raises(IndexError):
        large.examples[len(small.examples)]


def test_training_gives_the_same_bits(engine: Any, base: Callable[..., Any], shared: Path, no_room: Any) -> None:
    import torch

    from adapterhub_lite.training.config import TrainConfig

    source = shared / "data" / "banking77" / "test.csv"
    config = TrainConfig(steps=4, batch_size=8, learning_rate=1e-3)
    tensors = []
    for _ in range(2):
        data = load_data(source, "text-classification").select(range(0, 3080, 5))
        adapter = engine.train(base("minilm"), data, strategy="lora", settings={"rank": 2}, config=config)
        tensors.append({name: tensor.clone() for name, tensor in adapter.attachment.tensors.items()})
        adapter.detach()
        no_room()
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


@pytest.fixture
def long_file(tmp_path: Path) -> Iterator[Path]:
    """37 MB of texts."""
    path = tmp_path / "long.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for i in range(12_000):
            file.write('{"text": "' + f"{i} " * 600 + f'", "label": {i % 5}}}\n')
    assert path.stat().st_size > 36e6
    yield path
    path.unlink()


def test_memory_stays_small(long_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_data(long_file, "text-classification")
    monkeypatch.setattr(spill, "ROOM", 4_000_000)
    before = pa.total_allocated_bytes()
    pa.default_memory_pool().release_unused()
    tracemalloc.start()
    data = load_data(long_file, "text-classification")
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pa.total_allocated_bytes() - before < 9_000_000  # the room, and the batch that was too much
    assert held < 3_000_000
    assert peak < 30_000_000
    assert sum(len(text) for text in data.inputs) > 36_000_000


def test_nothing_is_left_on_disk(shared: Path, no_room: Callable[[], None]) -> None:
    no_room()
    data = load_data(shared / "data" / "banking77" / "test.csv", "text-classification")
    # The file has no name while it is in use, so that a process that is killed leaves none.
    assert list((cache_dir() / "spilled").iterdir()) == []
    assert data.inputs[0] == "How do I locate my card?"


def test_a_full_disk_is_said(shared: Path, no_room: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, content: bytes = b"") -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        close = write

    no_room()
    monkeypatch.setattr(spill.tempfile, "TemporaryFile", lambda **options: Full())
    with pytest.raises(StorageError, match=r"No space left on device.*ADAPTERHUB_CACHE"):
        load_data(shared / "data" / "banking77" / "test.csv", "text-classification")


def test_a_cache_that_cannot_be_written_is_said(
    shared: Path, tmp_path: Path, no_room: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path / "file"))
    no_room()
    with pytest.raises(StorageError, match="ADAPTERHUB_CACHE"):
        load_data(shared / "data" / "banking77" / "test.csv", "text-classification")

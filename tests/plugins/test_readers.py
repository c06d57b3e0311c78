"""A stranger's reader of files: rows of a format that the core does not know, for the tasks of everyone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from adapterhub_lite.api import DataError, ReaderSpec, hookimpl
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import AdapterHubError, ConfigError, PluginError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.progress import Silent

ROWS = "card lost|cards\nwhere is my card|cards\nwhat is the rate|rates\n"


def read_bars(path: Path) -> list[dict[str, str]]:
    """Text and label with a bar between them."""
    return [dict(zip(("text", "label"), line.split("|"), strict=True)) for line in path.read_text().splitlines()]


def engine_with(*reads: Callable[[], Any]) -> Engine:
    """An engine with the installed plug-ins, and one for each of these `adapterhub_readers`."""
    plugins = Plugins()
    for number, readers in enumerate(reads):
        module = ModuleType(f"reader_{number}")
        module.adapterhub_readers = hookimpl(readers)  # type: ignore[attr-defined]
        plugins.register(module)
    return Engine(plugins, Silent())


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    path = tmp_path / "cards.BARS"
    path.write_text(ROWS)
    return path


def test_every_task_reads_them(bars: Path) -> None:
    engine = engine_with(lambda: [ReaderSpec((".rows", ".bars"), read_bars)])
    data = engine.load_data(bars, "text-classification")
    assert (list(data.inputs), data.labels) == (
        ["card lost", "where is my card", "what is the rate"],
        ("cards", "rates"),
    )
    assert (data.source, data.sha256) == (str(bars), hashlib.sha256(ROWS.encode()).hexdigest())
    assert data.table is not None
    assert data.table.where(1, "text") == f"{bars}, row 2, column 'text'"
    assert len(engine.load_data(str(bars), "causal-lm").inputs) == 3


def test_an_adapter_is_scored_on_them(bars: Path, base: Callable[..., Any]) -> None:
    engine = engine_with(lambda: (ReaderSpec((".bars",), read_bars) for _ in "1"))
    data = engine.load_data(bars, "text-classification")
    adapter = engine.train(base("tiny-bert"), data, strategy="linear_probe", eval_data=str(bars))
    assert adapter.metrics["n"] == 3
    assert len(adapter.predict(str(bars))) == 3
    adapter.detach()


def test_files_that_a_task_opens_are_left_to_it(tmp_path: Path) -> None:
    engine = engine_with(lambda: [ReaderSpec((".npz", ".csv", ".conll"), lambda path: [{"text": "taken"}])])
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 4), dtype=np.uint8), labels=np.array([0, 1]))
    (tmp_path / "a.csv").write_text("text,label\nleft,yes\nright,no\n")
    (tmp_path / "a.conll").write_text("Ada B-PER\nwrites O\n")
    assert len(engine.load_data(tmp_path / "a.npz", "image-classification")) == 2
    assert list(engine.load_data(tmp_path / "a.csv", "text-classification").inputs) == ["left", "right"]
    assert engine.load_data(tmp_path / "a.conll", "token-classification").labels == ("B-PER", "O")
    assert engine.load_data(tmp_path / "a.conll", "causal-lm").inputs[0].text == "taken"


def refuse(path: Path) -> Any:
    raise DataError(f"{path}: line 7 has no bar")


@pytest.mark.parametrize(
    ("read", "error", "message"),
    [
        (refuse, DataError, r"^\S+cards\.BARS: line 7 has no bar$"),
        (lambda path: 1 / 0, DataError, r"^\S+cards\.BARS: its reader failed: ZeroDivisionError: division by zero$"),
        (lambda path: 7, DataError, r"^\S+cards\.BARS: <int>: not something rows can be read from"),
        (lambda path: [{"text": "a"}], DataError, r"^\S+cards\.BARS: cannot tell which column is the label"),
    ],
)
def test_a_bad_file_is_named(bars: Path, read: Any, error: type[AdapterHubError], message: str) -> None:
    with pytest.raises(error, match=message):
        engine_with(lambda: [ReaderSpec((".bars",), read)]).load_data(bars, "text-classification")


def test_a_file_that_is_not_there(tmp_path: Path, bars: Path) -> None:
    engine = engine_with(lambda: [ReaderSpec((".bars",), read_bars)])
    with pytest.raises(DataError, match=r"card.BARS: no such file; did you mean .*cards\.BARS"):
        engine.load_data(tmp_path / "card.BARS", "text-classification")
    with pytest.raises(DataError, match=r"files of type \.bars are not read"):
        engine_with().load_data(bars.rename(tmp_path / "cards.bars"), "text-classification")


def test_two_readers_of_one_suffix(bars: Path) -> None:
    reader = ReaderSpec((".bars",), read_bars)
    engine = engine_with(lambda: [reader], lambda: [reader])
    with pytest.raises(
        ConfigError, match=r"\.bars are read by the plug-ins reader_0 and reader_1; leave all but one out"
    ):
        engine.load_data(bars, "text-classification")


@pytest.mark.parametrize(
    ("readers", "message"),
    [
        (lambda: ["x"], r"plug-in 'reader_0' .* gave 'x' in adapterhub_readers, not a list of ReaderSpec; .*=reader_0"),
        (lambda: None, "gave None in adapterhub_readers"),
        (lambda: [ReaderSpec(("bars",), read_bars)], r"ConfigError: reader of \('bars',\): give suffixes as in"),
        (lambda: [ReaderSpec(".bars", read_bars)], "reader of '.bars'"),  # type: ignore[arg-type]
    ],
)
def test_a_plugin_that_fails_at_it_is_named(bars: Path, readers: Any, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        engine_with(readers).load_data(bars, "text-classification")

"""What Python users look for: tables and bars in notebooks, the log, silence, and which adapter is mounted."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adapterhub_causal_lm.tiny import completions
from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.evaluation.result import Evaluation
from adapterhub_lite.notebook import table
from adapterhub_lite.progress import Lines
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig
from adapterhub_text.tiny import texts

FEW = TrainConfig(steps=2, batch_size=4)
HOSTILE = "<script>alert('&')</script>"


@pytest.fixture(scope="module")
def adapter(engine: Engine) -> Adapter:
    return engine.train(tiny_base("encoder"), texts(), config=FEW)


class Notebook:
    """Stands in for IPython: keeps what is displayed, and what took its place."""

    def __init__(self, kernel: Any) -> None:
        self.shown: list[str] = []
        self.get_ipython = lambda: SimpleNamespace(kernel=kernel)
        self.HTML = str

    def display(self, value: str, display_id: bool) -> Notebook:
        assert display_id
        return self

    def update(self, value: str) -> None:
        self.shown.append(value)


def test_a_notebook_shows_a_bar_and_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = Notebook(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", notebook)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)  # type: ignore[arg-type]
    monkeypatch.setattr("adapterhub_lite.progress._NotebookBar.every", 0.0)
    with Lines().bar("training", 4, "steps") as bar:
        for _ in range(4):
            bar.advance(1, HOSTILE)
    Lines().say("a fact")
    assert capsys.readouterr().err == "a fact\n"
    assert len(notebook.shown) == 4
    assert 'value="1" max="4"' in notebook.shown[0]
    assert "training: 4/4 steps" in notebook.shown[-1]
    assert "<script" not in notebook.shown[-1]


def test_ipython_in_a_terminal_is_no_notebook(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", Notebook(kernel=None))  # type: ignore[arg-type]
    with caplog.at_level(logging.INFO, "adapterhub_lite"):
        Lines().say("a fact")
    assert caplog.messages == ["a fact"]


def test_lines_that_no_one_watches_go_to_the_log(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "adapterhub_lite"):
        Lines().say("note: cut")
        Lines().say("warning: another base")
        with Lines().bar("encoding", 2, "examples") as bar:
            bar.advance(2)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO"]
    assert {record.name for record in caplog.records} == {"adapterhub_lite"}
    assert caplog.messages[:2] == ["note: cut", "warning: another base"]
    assert capsys.readouterr() == ("", "")
    handlers = logging.getLogger("adapterhub_lite").handlers
    assert [type(handler) for handler in handlers if type(handler).__module__ == "logging"] == [logging.NullHandler]


def test_tables_hold_text_alone(adapter: Adapter, engine: Engine) -> None:
    rows = [{"text": f"good {HOSTILE}", "label": HOSTILE}, {"text": "bad", "label": "b"}] * 4
    data = engine.load_data(rows, "text-classification")
    shown = data._repr_html_()
    assert shown.count("<tr>") == 6
    assert "8 rows for text-classification" in shown
    named = Evaluation(4, {HOSTILE: 0.5, "accuracy": 0.5}, (HOSTILE,), {"accuracy": (0.25, 0.75)})
    assert '<td style="text-align: left">0.5000 (0.2500 to 0.7500)</td>' in named._repr_html_()
    for page in (shown, named._repr_html_(), table(HOSTILE, [(HOSTILE,)], (HOSTILE,))):
        assert "<script" not in page
        assert "&lt;script&gt;" in page
    assert "lora for text-classification" in adapter._repr_html_()
    assert "no, yes" in adapter._repr_html_()
    regression = Dataset("text-regression", ("a",), (1.5,), (), {}, "<list>", "", None)
    assert "1.5" in regression._repr_html_()


def test_which_adapter_is_active(adapter: Adapter, engine: Engine) -> None:
    other = engine.train(adapter.base, texts(), config=FEW)
    assert other.active
    assert not adapter.active
    adapter.active = True
    assert adapter.active
    assert not other.active
    other.active = False  # which is off already, and takes nothing off
    assert adapter.active
    adapter.active = False
    assert adapter.base.active is None
    other.predict(["good"])
    assert other.active
    other.detach()
    assert not other.active


def test_nothing_is_said_where_progress_is_false(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "adapterhub_lite")
    loud, silent = Engine(), Engine(progress=False)
    base = tiny_base("encoder")

    def use(adapter: Adapter, **how: bool) -> list[str]:
        caplog.clear()
        adapter.evaluate(texts(), **how)
        adapter.predict(["good one", "bad"], **how)
        return caplog.messages

    talks = loud.train(base, texts(), config=FEW)
    assert any(line.startswith("training:") for line in caplog.messages)
    assert len(use(talks)) == 2
    assert use(talks, progress=False) == []
    for adapter in (silent.train(base, texts(), config=FEW), loud.train(base, texts(), config=FEW, progress=False)):
        assert use(adapter) == []
    assert loud.progress is not silent.progress
    writer = loud.train(tiny_base("decoder"), completions(), config=FEW, progress=False)
    caplog.clear()
    writer.generate(["one two", "six"], max_new_tokens=2, progress=False)
    assert caplog.messages == []


def test_an_adapter_is_loaded_in_silence(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "adapterhub_lite")
    engine = Engine()
    quiet, loud = engine.load_adapter(trained, progress=False), engine.load_adapter(trained)
    assert quiet.base is loud.base
    assert quiet.predict(["good money"]) == loud.predict(["good money"], progress=False)
    assert caplog.messages == []
    loud.predict(["good money"])
    assert len(caplog.messages) == 1

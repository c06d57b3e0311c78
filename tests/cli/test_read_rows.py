"""The rows to train and to score on, read as `train` reads them and as the engine does."""

from __future__ import annotations

import pytest

from adapterhub_lite.adapter.read import read_like
from adapterhub_lite.cli.run_file import read_run
from adapterhub_lite.cli.train import read_rows
from adapterhub_lite.engine import Engine
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.progress import Silent
from adapterhub_lite.tasks.catalog import Catalog


def test_the_file_to_score_on_is_read_by_the_columns_of_the_training_data(tmp_path):
    (tmp_path / "train.csv").write_text("sentence,label\ngood day,x\nbad day,y\nmy card,x\none two,y\n")
    (tmp_path / "dev.csv").write_text("text,sentence,label\nid 1,good card,x\nid 2,bad card,y\n")
    given = {"base": "any", "task": "text-classification", "out": "any"}
    given |= {"data": str(tmp_path / "train.csv"), "eval_data": str(tmp_path / "dev.csv")}
    held_out = read_rows(read_run(None, given), Catalog(Plugins())).held_out
    assert list(held_out.inputs) == ["good card", "bad card"]


@pytest.mark.parametrize("way", ["command line", "Python"])
def test_the_file_to_score_on_needs_no_groups(way, tmp_path):
    (tmp_path / "train.csv").write_text("text,label,who\ngood day,x,1\nbad day,y,1\nmy card,x,2\none two,y,2\n")
    (tmp_path / "dev.csv").write_text("text,label\ngood card,x\nbad card,y\n")
    train, dev, columns = str(tmp_path / "train.csv"), str(tmp_path / "dev.csv"), {"group": "who"}
    if way == "Python":
        engine = Engine(progress=Silent())
        data = engine.load_data(train, "text-classification", columns=columns)
        held_out = read_like(engine.task_shelf, data, dev)
    else:
        given = {"base": "any", "task": "text-classification", "out": "any", "columns": columns}
        given |= {"data": train, "eval_data": dev}
        held_out = read_rows(read_run(None, given), Catalog(Plugins())).held_out
    assert len(held_out) == 2

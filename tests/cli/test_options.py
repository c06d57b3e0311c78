"""The options of the command line are the fields of the models: none is missing, and every default is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic.fields import FieldInfo
from typer.main import get_command

import adapterhub_lite.cli.train as train_verb
from adapterhub_lite.cli import VERBS, app, run_file
from adapterhub_lite.cli.from_models import flag_of
from adapterhub_lite.cli.run_file import RunFile
from adapterhub_lite.data.files.options import FileOptions
from adapterhub_lite.training.config import TrainConfig

FIELDS = {
    **{(name,): field for name, field in RunFile.model_fields.items() if name not in ("training", "files")},
    **{("training", name): field for name, field in TrainConfig.model_fields.items()},
    **{("files", name): field for name, field in FileOptions.model_fields.items()},
}
NEEDED = {"base": "b", "data": "d.csv", "task": "text-classification", "out": "o"}
# What `train` took before its options were made from the models, and scripts of users give.
ALWAYS = (
    "--base --data --eval-data --task --task-set --hold-out --shots --fraction "
    "--from-scratch --strategy --out --quantize --dtype --device --set --config "
    "--epochs --steps --batch-size --micro-batch-size --lr --max-length --pooling --class-weights "
    "--window --stride --seed --activation-checkpointing --activation-offload --shard --optimizer --schedule "
    "--warmup --start-head --start-penalty --average --eval-every --patience --checkpoint-every --keep-checkpoints "
    "--track --resume --text-column --label-column --image-column --prompt-column --completion-column --column "
    "--json "
)


def options_shown(run: Any, monkeypatch: pytest.MonkeyPatch, verb: str, width: int) -> dict[str, str]:
    """What the help of a verb says about each option."""
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run(verb, "--help").out.splitlines()
    assert all(len(line) <= width for line in lines)
    shown: dict[str, str] = {}
    option = ""
    for line in lines:
        if line.startswith("╭"):  # the next panel
            option = ""
        start = re.match(r"│ [* ]{0,3}(--[a-z-]+) ", line)
        option = start.group(1) if start is not None else option
        shown[option] = " ".join([*shown.get(option, "").split(), *line.strip("│╰╯─ *").split()])
    return shown


@pytest.mark.parametrize("width", [80, 120, 200])
def test_every_field_has_its_option_description_and_default(run, monkeypatch, width):
    shown = options_shown(run, monkeypatch, "train", width)
    assert set(ALWAYS.split()) <= set(shown)
    for path, field in FIELDS.items():
        said = shown[flag_of(path[-1], field)]
        assert field.description in said, path
        default = field.get_default(call_default_factory=True, validated_data={})
        if field.is_required():
            assert said.endswith("[needed here or in --config]")
        elif isinstance(default, bool):
            assert said.endswith(f"[default: {'on' if default else 'off'}]")
        elif default is None or default in ({}, []):
            assert re.search(r"\[default: [a-z' ,-]+\]$", said), said  # in words: none, or who decides
        else:
            assert re.search(rf"\[default: {re.escape(str(default))}\]$".replace(r"\.0\]", r"(\.0)?\]"), said), said


def test_choices_are_listed(run, monkeypatch):
    shown = options_shown(run, monkeypatch, "train", 200)
    assert "One of random, probe." in shown["--start-head"]
    assert all(name in shown["--schedule"] for name in get_args(TrainConfig.model_fields["schedule"].annotation))
    assert "Any of tensorboard" in shown["--track"]


@pytest.mark.parametrize("verb", ["evaluate", "predict", "generate", "verify", "merge", "combine", "export"])
def test_the_verbs_share_their_options(run, monkeypatch, verb):
    shown, other = (options_shown(run, monkeypatch, name, 160) for name in (verb, "evaluate"))
    for option in ("--base", "--device"):
        assert shown[option].split() == other[option].split()
        assert "[default: " in shown[option]


def samples(field: FieldInfo) -> Iterator[Any]:
    """Two values that a field takes."""
    kinds = (field.annotation, *get_args(field.annotation))
    choices = next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())
    if get_origin(field.annotation) is dict:
        yield from ({"a": "b"}, {"a": "c"})
    elif get_origin(field.annotation) is list:
        yield from ([choices[0]], [choices[1]])
    elif choices:
        yield from choices[:2]
    else:
        kind = next(kind for kind in (bool, int, float, str) if kind in kinds)
        yield from {bool: (False, True), int: (3, 5), float: (0.25, 0.5), str: ("auto", "float32")}[kind]


@pytest.mark.parametrize("path", FIELDS, ids=".".join)
def test_an_option_wins_over_the_run_file_and_its_absence_does_not(path, run, monkeypatch, tmp_path):
    asked: list[RunFile] = []

    def only_record(run: RunFile, **_: Any) -> dict[str, object]:
        asked.append(run)
        return {"adapter": "a", "size_bytes": 1, "trainable": 1, "base_parameters": 1, "metrics": {}}

    monkeypatch.setattr(train_verb, "run_training", only_record)
    monkeypatch.setattr(run_file, "_of_adapter", lambda path: {})  # there is none of these names
    field, name = FIELDS[path], path[-1]
    others = {"quantize": ("nf4", "fp4"), "strategy": ("lora", "full")}  # whose "auto" is none, or another verb
    recorded, given = others.get(name) or samples(field)
    file = tmp_path / "run.yaml"
    nested = {path[0]: {name: recorded}} if len(path) == 2 else {name: recorded}
    file.write_text(yaml.safe_dump({**NEEDED, **nested}))
    words = [
        flag_of(name, field),
        "a=c" if isinstance(given, dict) else ",".join(given) if isinstance(given, list) else given,
    ]
    words = words[:1] if given is True else words
    for arguments, expected in (([], recorded), (words, given)):
        outcome = run("train", "--config", file, *arguments)
        assert outcome.code == 0, outcome.err
        section = getattr(asked[-1], path[0]) if len(path) == 2 else asked[-1]
        assert getattr(section, name) == expected


def test_named_columns_and_shortcuts_reach_the_run(run, monkeypatch):
    asked: list[RunFile] = []

    def only_record(run: RunFile, **_: Any) -> dict[str, object]:
        asked.append(run)
        return {"adapter": "a", "size_bytes": 1, "trainable": 1, "base_parameters": 1, "metrics": {}}

    monkeypatch.setattr(train_verb, "run_training", only_record)
    needed = [word for name, value in NEEDED.items() for word in (f"--{name}", value)]
    assert run("train", *needed, "--text-column", "yes", "--column", "group=1", "--max-length", "9").code == 0
    assert asked[-1].columns == {"text": "yes", "group": "1"}
    assert asked[-1].task_options == {"max_length": 9}
    for words in (["--text-column", "a", "--column", "text=b"], ["--column", "text=a", "--column", "text=b"]):
        assert "the text column is named twice" in run("train", *needed, *words).err
        assert "the text column is named twice" in run("evaluate", "a", "--data", "d.csv", *words).err
    assert "write it as --column ROLE=NAME" in run("train", *needed, "--column", "text").err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_what_it_does(verb, run):
    listed = VERBS[verb][1]
    assert listed.endswith(".")
    own = get_command(app).commands[verb].load()
    assert own.help
    assert own.help.split()[:2] == listed.split()[:2]

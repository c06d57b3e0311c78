"""Run files and options in YAML that would cost time or memory, or whose meaning is not plain."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from adapterhub_lite.cli.bounded_yaml import UnboundedYaml, UnusableYaml, read_yaml
from adapterhub_lite.cli.options import parse_settings
from adapterhub_lite.cli.run_file import read_run
from adapterhub_lite.errors import ConfigError

LAUGHS = "\n".join(
    ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
)
MERGES = "\n".join(
    ["a0: &a0 {x: 1}"] + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 12)]
)
COSTLY = {
    "aliases of aliases": (LAUGHS, "stands for over 20,000 values"),
    "merged aliases": (MERGES, "stands for over 20,000 values"),
    "an alias of itself": ("a: &a [*a]", "nested deeper than 50|over 20,000"),
    "lists in lists": ("[" * 5000, "nested too deeply|expected"),
    "whole lists in lists": ("[" * 400 + "]" * 400, "nested (too deeply|deeper)"),
    "blocks in blocks": ("\n".join(" " * i + "a:" for i in range(300)), "nested (too deeply|deeper)"),
    "too long": ("a: " + "x" * 200_000, "has 200,003 characters where at most 100,000"),
    "many values": ("a: [" + "1," * 30_000 + "]", "stands for over 20,000 values"),
}


@pytest.mark.parametrize("kind", COSTLY)
def test_costly_documents(kind: str, tmp_path: Path) -> None:
    text, message = COSTLY[kind]
    (tmp_path / "run.yaml").write_text(text)
    started = time.process_time()
    with pytest.raises(ConfigError, match=rf"run\.yaml cannot be used: .*({message})"):
        read_run(tmp_path / "run.yaml", {})
    assert time.process_time() - started < 3, "under a second on an idle machine; expanded, it is hours"
    with pytest.raises(UnusableYaml):
        read_yaml(text)


@pytest.mark.parametrize("kind", ["aliases of aliases", "whole lists in lists", "too long"])
def test_costly_options(kind: str) -> None:
    with pytest.raises(ConfigError, match="--set x: its value cannot be used"):
        parse_settings([f"x={COSTLY[kind][0]}"])
    with pytest.raises(UnboundedYaml):
        read_yaml(COSTLY[kind][0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: a\ntask: b\nbase: c", "line 1: the key 'base' is given twice"),
        ("training:\n  steps: 1\n  steps: 2", "line 2: the key 'steps' is given twice"),
        ("when: 2020-99-99", "month"),
        ("n: " + "9" * 5000, "digits"),
        ("seed: 010", "line 1: YAML takes 010 for another number"),
        ("a: 1\nsteps: 1:30", "line 2: YAML takes 1:30 for another number"),
        ("a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("a: [", "expected"),
        ("? [a]\n: b", "unhashable|hashable"),
    ],
)
def test_what_is_not_plain_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_run(tmp_path / "run.yaml", {})


@pytest.mark.parametrize("text", ["1: x", "- a", "null", "", "a", "0x" + "f" * 9000])
def test_what_is_no_run_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match="must hold keys and values"):
        read_run(tmp_path / "run.yaml", {})


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (f"seed: {2**64}", r"training.seed: .*less than or equal to 9223372036854775807"),
        ("seed: 0x" + "f" * 9000, "training.seed: .*thousands of digits"),
        ("weight_decay: .inf", "training.weight_decay: .*finite"),
        ("learning_rate: .nan", "training.learning_rate: "),
        ("epochs: .inf", "training.epochs: .*finite"),
    ],
)
def test_numbers_no_run_can_use(training: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(f"base: a\ndata: b\ntask: c\nout: d\ntraining: {{{training}}}")
    with pytest.raises(ConfigError, match=message):
        read_run(tmp_path / "run.yaml", {})


def test_ordinary_documents_are_read_as_by_the_library() -> None:
    text = "a: &x {b: [1, 2.5, null, yes]}\nc: *x\nd: {<<: *x, e: 'f'}\n"
    assert read_yaml(text) == yaml.safe_load(text)


def test_options_mean_the_numbers_they_look_like() -> None:
    """YAML 1.1 alone would take 010 for eight and 1:30 for ninety."""
    given = parse_settings(["rank=010", "when=1:30", "zero=0", "half=0.5", "hex=0x10", "text='010'"])
    assert given == {"rank": 10, "when": "1:30", "zero": 0, "half": 0.5, "hex": 16, "text": "010"}

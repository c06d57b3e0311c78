"""The core asks strategies and tasks what they can do, and never what they are called."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.spec import OURS
from adapterhub_lite.tasks.catalog import Catalog

CORE = Path(__file__).parents[1] / "adapterhub_lite"

# Where the core may write such a name, and why; nowhere is it compared with that of an adapter.
ALLOWED = {
    "comparison/asked.py": "the strategies that are compared where none is named",
    "cli/demo.py": "the demo is a run of some strategies on some tasks",
    "cli/run_file.py": "the default of --strategy",
    "engine.py": "the default of Engine.train",
    "estimators.py": "the defaults of estimators",
    "plan/ask.py": "the strategies that are planned for where none is named",
}


@pytest.fixture(scope="module")
def names() -> set[str]:
    """Of everything that comes with the package."""
    plugins = Plugins()
    strategies = {offered.spec.name for offered in plugins.strategies if offered.dist == OURS}
    return strategies | {offered.spec.name for offered in Catalog(plugins).offered if offered.dist == OURS}


def mentioned(source: str, names: set[str]) -> Iterator[tuple[int, str]]:
    """Line and text of every string that is a name, or the beginning of names such as `peft:ia3`.

    A class may say its own: `name = "causal-lm"`. What documents the code mentions names inside of longer strings.
    """
    tree = ast.parse(source)
    own = {
        statement.value
        for kind in ast.walk(tree)
        if isinstance(kind, ast.ClassDef)
        for statement in kind.body
        if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == ["name"]
    }
    texts = names | {name.partition(":")[0] + ":" for name in names if ":" in name}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in texts and node not in own:
            yield node.lineno, node.value


def test_the_core_knows_no_strategy_and_no_task_by_name(names: set[str]) -> None:
    assert {"lora", "prefix", "linear_probe", "full", "causal-lm", "text-classification"} <= names
    named = {
        f"{file.relative_to(CORE).as_posix()}:{line}: {name}"
        for file in CORE.rglob("*.py")
        if file.relative_to(CORE).as_posix() not in ALLOWED
        for line, name in mentioned(file.read_text(encoding="utf-8"), names)
    }
    assert named == set()


def test_every_exception_is_still_one(names: set[str]) -> None:
    idle = [
        file
        for file in ALLOWED
        if not (CORE / file).exists() or not list(mentioned((CORE / file).read_text(encoding="utf-8"), names))
    ]
    assert idle == []


@pytest.mark.parametrize(
    "source",
    [
        'if manifest.strategy.name == "lora":\n    pass',
        'registry.resolve("linear_probe")',
        'head = None if task.name != "causal-lm" else 1',
        'if strategy in ("prefix", "mine"):\n    pass',
        'strategy = f"peft:{method}"',
        'TABLE = {"image-classification": 1}',
    ],
)
def test_the_test_sees_a_name(source: str, names: set[str]) -> None:
    assert len(list(mentioned(source, names))) == 1


@pytest.mark.parametrize(
    "source", ['class Task:\n    name = "causal-lm"', '"""Use lora."""', 'error = "use strategy lora, or full"']
)
def test_the_test_lets_be_what_is_no_comparison(source: str, names: set[str]) -> None:
    assert list(mentioned(source, names)) == []

"""The house: which package may import which, and how large its rooms are. docs/architecture.md describes it."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "adapterhub_lite"
PUBLIC = {"__init__", "__main__"}
"""They lead from outside to the command line and to the public names, and nothing inside imports them."""

# A package imports packages in the rows below its own, at type-checking time and inside functions too.
ORDER = [
    {"cli"},
    {"api"},
    {"estimators", "testing", "scaffold"},
    {"reporting"},
    {"comparison", "exchange", "merging", "serve"},
    {"engine"},
    {"adapter"},
    {"auditing", "evaluation", "plan"},
    {"training"},
    {"tasks"},
    {"base", "data"},
    {"plugins"},
    {"storage"},
    {"scoring"},
    {"cache", "first_use", "names", "pages", "progress"},
    {"errors", "interrupt", "notebook"},
]


def imports_of(file: Path) -> Iterator[tuple[int, str]]:
    """Every module a file imports, wherever in it: line and dotted name."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            # `from package import module` imports the module, `from module import name` the module before it.
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def modules_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def package_of(file: Path) -> str:
    return file.relative_to(CORE).parts[0].removesuffix(".py")


def wrong_ways(files: list[Path]) -> list[str]:
    """Imports that point up or sideways."""
    level = {name: row for row, names in enumerate(ORDER) for name in names}
    wrong = []
    for file in files:
        here = package_of(file)
        if here in PUBLIC:
            continue
        for line, name in imports_of(file):
            parts = name.split(".")
            if parts[0] != "adapterhub_lite" or parts[1] == here:
                continue
            if parts[1] not in level or level[here] >= level[parts[1]]:
                wrong.append(f"{file.relative_to(ROOT)}:{line}: {here} imports {parts[1]}")
    return wrong


def test_every_package_has_its_place_in_the_order():
    assert {package_of(file) for file in modules_of(CORE)} == PUBLIC.union(*ORDER)


def test_imports_point_down_at_type_checking_time_too():
    assert wrong_ways(modules_of(CORE)) == []


@pytest.mark.parametrize(
    "source",
    [
        "from adapterhub_lite.engine import Engine",
        "import adapterhub_lite.cli",
        "def late():\n    from adapterhub_lite.api import Task",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from adapterhub_lite.data.table import Table",
        "from adapterhub_lite import tasks",
        "from adapterhub_lite import load_base",
    ],
)
def test_the_test_sees_an_import_that_points_up(source, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "CORE", tmp_path)
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "new.py").write_text(source, encoding="utf-8")
    assert len(wrong_ways(modules_of(tmp_path))) == 1


@pytest.mark.parametrize("folder", ["plugins", "examples"])
def test_plugins_import_the_api_and_nothing_else_of_ours(folder):
    own = {path.name for path in (ROOT / folder).rglob("*") if path.is_dir()} - {"adapterhub_lite"}
    for file in modules_of(ROOT / folder):
        if "tests" in file.parts or "domains" in file.parts:  # which use the package as anyone does
            continue
        for line, name in imports_of(file):
            package, _, rest = name.partition(".")
            if package == "adapterhub_lite":
                assert rest.split(".")[0] == "api", f"{file.relative_to(ROOT)}:{line} imports {name}"
            assert not (package.startswith("adapterhub_") and package not in own | {"adapterhub_lite"}), (file, name)


WINGS = {
    "auditing": 2_250, "comparison": 1_780, "evaluation": 600, "pages": 300, "plan": 1_350, "reporting": 2_750, "scoring": 1_500,
    "serve": 1_250,
}  # fmt: skip
"""Packages with a bound of their own, the most lines of each: those that stand on the engine and that no other one needs, and
the scores in detail: scoring is arithmetic on arrays, evaluation brings it to adapters."""


def test_rooms_are_small():
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in modules_of(CORE)}
    assert statistics.median(lengths.values()) < 100
    assert {str(file.relative_to(ROOT)): n for file, n in lengths.items() if n > 350} == {}
    by_package: dict[str, int] = {}
    for file, n in lengths.items():
        by_package[package_of(file)] = by_package.get(package_of(file), 0) + n
    assert {name: n for name, n in by_package.items() if n > WINGS.get(name, n)} == {}
    assert sum(n for name, n in by_package.items() if name not in WINGS) < 29_200

"""mypy --strict and pyright, on scripts and plug-ins as others write them, see the types of the package."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TYPED = Path(__file__).parent / "typed"
SOURCES = sorted(map(str, (ROOT / "examples").glob("*/src")))
FILES = [
    ROOT / "docs" / "protocol_examples.py",
    *TYPED.glob("*.py"),
    *(ROOT / "examples").glob("*/src/*/*.py"),
    *(ROOT / "examples" / "domains").glob("*.py"),
]
# What is tested are the package's type hints, not whether scikit-learn has some.
SETTINGS = "[mypy]\nstrict = true\n[mypy-sklearn.*,matplotlib.*,benchmarks.*]\nignore_missing_imports = true\n"


@pytest.fixture(scope="module", params=["mypy", "pyright"])
def errors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[str]]:
    """The errors that a checker has about all the files at once, by the name of the file."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "mypy.ini").write_text(SETTINGS)
    relative = [os.path.relpath(path, folder) for path in FILES]
    (folder / "pyrightconfig.json").write_text(json.dumps({"include": relative, "extraPaths": SOURCES}))
    commands = {
        "mypy": ["mypy", "--cache-dir", str(ROOT / ".pytest_cache" / "mypy"), *map(str, FILES)],
        "pyright": ["pyright", "--pythonpath", sys.executable],
    }
    done = subprocess.run(
        [sys.executable, "-m", *commands[request.param]], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "MYPYPATH": os.pathsep.join(SOURCES), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )  # fmt: skip
    matches = re.findall(r"^ *(\S+\.py)(:\d+:.*\berror\b.*)$", done.stdout, flags=re.MULTILINE)
    assert matches, f"mistakes.py has mistakes\n{done.stdout}{done.stderr}"
    by_name: dict[str, list[str]] = {path.name: [] for path in FILES}
    for path, error in matches:
        by_name[Path(path).name].append(Path(path).name + error)
    return by_name


def test_scripts_plugins_and_examples_see_real_types(errors):
    assert [error for name, of_file in errors.items() if name != "mistakes.py" for error in of_file] == []


def test_mistakes_are_found(errors):
    lines = (TYPED / "mistakes.py").read_text(encoding="utf-8").splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# mistake")}
    assert {int(error.split(":")[1]) for error in errors["mistakes.py"]} == wrong


def test_the_wheel_says_that_its_packages_have_types(environment, tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    environment.run(f"pip wheel --quiet --no-deps --no-build-isolation --wheel-dir . {ROOT}", at=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert f"{Path(package).name}/py.typed" in names


def test_every_default_of_an_option_is_one_for_type_checkers():
    """They know `Field(default=...)`, and take an option for required whose default stands by itself."""
    for folder in ("adapterhub_lite/training", "adapterhub_lite/tasks", "plugins", "examples", "docs"):
        for file in (ROOT / folder).rglob("*.py"):
            for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(call, ast.AnnAssign) and isinstance(call.value, ast.Call):
                    is_field = isinstance(call.value.func, ast.Name) and call.value.func.id == "Field"
                    assert not (is_field and call.value.args), f"{file}:{call.lineno}"

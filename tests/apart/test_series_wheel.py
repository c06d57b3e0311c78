"""`adapterhub_series` as a distribution of its own, beside a core that does not bring it, passes the tests of series."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NAME = "adapterhub-lite-series"


def build_wheel(folder: Path) -> Path:
    """The wheel that a pyproject.toml with this name, this package and this entry point would be built into."""
    info = "adapterhub_lite_series-0.1.0.dist-info"
    package = ROOT / "plugins" / "adapterhub_series"
    files = {str(path.relative_to(package.parent)): path.read_bytes() for path in sorted(package.rglob("*.py"))}
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 0.1.0\nRequires-Dist: adapterhub-lite\n".encode()
    )
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = b"[adapterhub_lite]\nseries = adapterhub_series\n"
    digests = {name: base64.urlsafe_b64encode(hashlib.sha256(content).digest()) for name, content in files.items()}
    record = [f"{name},sha256={digests[name].decode().rstrip('=')},{len(files[name])}" for name in files]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    wheel = folder / "adapterhub_lite_series-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return wheel


@pytest.fixture(scope="module")
def beside(
    environment: Callable[[Mapping[str, str]], Any],
    built_in: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """The core with its other plug-ins, and the wheel."""
    made = environment({name: module for name, module in built_in.items() if name != "series"})
    wheel = build_wheel(tmp_path_factory.mktemp("wheel"))
    command = ["install", "--quiet", "--no-deps", "--no-index", "--target", str(made.site), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True, capture_output=True)
    return made


def test_the_tasks_are_those_of_the_wheel(beside: Any) -> None:
    done = beside.run("-m", "adapterhub_lite", "tasks", "--json")
    series = {task["name"]: task["dist"] for task in json.loads(done.stdout)["tasks"] if task["modality"] == "series"}
    assert series == {"series-classification": NAME, "series-regression": NAME}
    where = beside.run("-c", "import adapterhub_series; print(adapterhub_series.__file__)").stdout.strip()
    assert Path(where).is_relative_to(beside.site)
    assert not (beside.site / "adapterhub_series").is_symlink()


@pytest.mark.parametrize(
    ("task", "data", "strategy"),
    [("classification", "waves.npz", "lora"), ("regression", "engines.csv", "linear_probe")],
)
def test_adapters_saved_before_load(beside: Any, task: str, data: str, strategy: str) -> None:
    """They name the task without a distribution."""
    name = f"adapters/series-{task}-{strategy}"
    done = beside.run("-m", "adapterhub_lite", "evaluate", name, "--data", f"data/{data}", "--json")
    assert done.returncode == 0, done.stderr
    expected = json.loads((ROOT / "tests" / "golden" / f"{name}.json").read_text())["metrics"]
    assert json.loads(done.stdout)["metrics"] == pytest.approx(expected, rel=1e-4)


def test_the_tests_of_series_pass(beside: Any, tmp_path: Path) -> None:
    """Run on a copy of them, which has a cache of its own and nothing else of this repository within reach."""
    copy = tmp_path / "repository"
    shutil.copytree(ROOT / "tests" / "series", copy / "tests" / "series", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests" / "conftest.py", copy / "tests")
    shutil.copy(ROOT / "pyproject.toml", copy)
    if (ROOT.parent / "shared").is_dir():
        (tmp_path / "shared").symlink_to(ROOT.parent / "shared")
    done = beside.run("-m", "pytest", "-q", "--rootdir", copy, "-c", copy / "pyproject.toml", copy / "tests" / "series")
    assert done.returncode == 0, done.stdout[-5000:]
    assert re.search(r"\[100%\]", done.stdout)

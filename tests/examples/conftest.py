"""An environment of its own for plug-ins to be installed into, that sees everything installed where the tests run."""

from __future__ import annotations

import csv
import os
import runpy
import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

WARM = Path(__file__).with_name("warm.py")
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the commands `pip`, `pytest`, `ruff` and `adapterhub-lite`."""

    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ADAPTERHUB_", "PYTEST_", "COV_"))}
        return {
            **kept,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "VIRTUAL_ENV": str(self.folder),
            "ADAPTERHUB_CACHE": os.environ["ADAPTERHUB_CACHE"],
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "COLUMNS": "200",
        }

    def run(
        self, command: str, *, at: Path, code: int = 0, timeout: float = 120, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command; fails with everything it printed when it does not end with `code`."""
        done = subprocess.run(
            command, shell=True, cwd=at, env={**self.variables, **more}, timeout=timeout,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{command}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def install(self, example: str, where: Path) -> None:
        """Build the wheel of an example from a copy of it in a folder, and install it.

        Its dependencies are asked for too, and found nowhere: what the wheel needs is there.
        """
        shutil.copytree(EXAMPLES / example, where / example, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        self.run(f"pip wheel --quiet --no-deps --no-build-isolation --wheel-dir wheels ./{example}", at=where)
        (wheel,) = (where / "wheels").glob("*.whl")
        self.run(f"pip install --quiet --no-index {wheel}", at=where)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A fresh environment; a build backend is fetched from PyPI, and the test skipped where that cannot be reached."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    made = Environment(folder)
    python, socket = folder / "bin" / "python", folder / "socket"
    site = Path(sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})["purelib"])
    # Behind its own packages come those of this environment, with their .pth files: an editable install is one.
    (site / "behind.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
    asking = folder / "ask.py"
    asking.write_text(runpy.run_path(str(WARM))["CLIENT"].format(socket=str(socket), module="adapterhub_lite"))
    for command in ("pip", "pytest", "ruff"):
        write_script(folder / "bin" / command, f'"{python}" -m {command}')
    write_script(folder / "bin" / "adapterhub-lite", f'"{python}" -ISX utf8 "{asking}"')
    try:
        made.run("pip install --quiet --only-binary :all: hatchling editables build", at=folder)
    except AssertionError as error:
        if "No matching distribution" in str(error) or "Connection" in str(error):
            pytest.skip(f"needs hatchling from PyPI, which cannot be reached: {error}")
        raise
    with subprocess.Popen([python, WARM, socket], env=made.variables, stdout=subprocess.PIPE, text=True) as warm:
        assert warm.stdout is not None
        assert warm.stdout.readline() == "ready\n"
        yield made
        warm.terminate()


def write_script(path: Path, command: str) -> None:
    """A script of the shell that is replaced by a command."""
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """A folder with train.csv and test.csv: 3 intents of banking77, 16 and 8 rows each."""
    folder = tmp_path_factory.mktemp("rows")
    wanted = ("card_arrival", "exchange_rate", "lost_or_stolen_card")
    for name, count in (("train", 16), ("test", 8)):
        with (shared / "data" / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        kept = [row for label in wanted for row in [r for r in rows if r["category"] == label][:count]]
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["text", "category"])
            writer.writeheader()
            writer.writerows(kept)
    return folder

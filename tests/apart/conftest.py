"""Environments of their own: the core without its plug-ins, and with a distribution beside it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = re.compile(r"_*adapterhub|__editable__", re.IGNORECASE)


@dataclass(frozen=True)
class Environment:
    """A virtual environment with all that is installed here but our own packages."""

    folder: Path

    @property
    def site(self) -> Path:
        """Where its packages are."""
        return next(self.folder.glob("lib/python*/site-packages"))

    def run(self, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run its Python from the folder of the golden adapters, where nothing of ours can be imported by accident."""
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        return subprocess.run(
            [str(self.folder / "bin" / "python"), *map(str, arguments)],
            cwd=ROOT / "tests" / "golden", env={**inherited, "PYTHONSAFEPATH": "1", "COLUMNS": "200", **variables},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def describe(self, name: str, entry_points: Mapping[str, str]) -> None:
        """Write the metadata of a distribution whose packages are there."""
        info = self.site / f"{name.replace('-', '_')}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
        lines = [f"{key} = {value}" for key, value in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[adapterhub_lite]", *lines, ""]))


@pytest.fixture(scope="session")
def built_in() -> dict[str, str]:
    """The entry points of our own plug-ins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return dict(project["entry-points"]["adapterhub_lite"])


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Mapping[str, str]], Environment]:
    """Make an environment with the core and those of our plug-ins whose entry points are given."""

    def make(entry_points: Mapping[str, str]) -> Environment:
        made = Environment(tmp_path_factory.mktemp("environment"))
        venv.create(made.folder, symlinks=True)
        installed = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
        assert sys.prefix != sys.base_prefix, "these tests link what is installed in a virtual environment"
        for entry in (entry for folder in installed for entry in folder.iterdir()):
            if not OURS.match(entry.name):
                (made.site / entry.name).symlink_to(entry)
        (made.site / "adapterhub_lite").symlink_to(ROOT / "adapterhub_lite")
        for package in entry_points.values():
            (made.site / package).symlink_to(ROOT / "plugins" / package)
        made.describe("adapterhub-lite", entry_points)
        return made

    return make

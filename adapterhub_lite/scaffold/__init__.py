"""Writing the distribution of a new strategy: `adapterhub-lite plugins new NAME`. No torch here."""

from __future__ import annotations

import re
import shutil
import tempfile
from importlib import metadata, resources
from pathlib import Path
from string import Template

from adapterhub_lite.errors import ConfigError, StorageError
from adapterhub_lite.plugins.manager import Plugins

NAME = re.compile(r"[a-z][a-z0-9_]*")
LONGEST = 40

# From the template to the file it becomes.
FILES = {
    "pyproject.toml.tmpl": "pyproject.toml",
    "README.md.tmpl": "README.md",
    "src/__init__.py.tmpl": "src/{module}/__init__.py",
    "src/strategy.py.tmpl": "src/{module}/strategy.py",
    "tests/test_strategy.py.tmpl": "tests/test_{name}.py",
}


def check_name(name: str, plugins: Plugins) -> None:
    """Refuse a name that a new strategy cannot have.

    Raises:
        ConfigError: a name of another form, or one that an installed plug-in has taken; says which.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST or name.endswith("_") or "__" in name:
        better = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")[:LONGEST].rstrip("_")
        meant = f"; did you mean '{better}'?" if NAME.fullmatch(better) else ""
        raise ConfigError(
            f"'{name}' cannot be the name of a strategy: at most {LONGEST} lower case letters, digits and single '_', "
            f"beginning with a letter, as in 'my_lora'{meant}"
        )
    for provided in plugins.strategies:
        if provided.spec.name == name:
            raise ConfigError(
                f"there is a strategy '{name}' already, of plug-in '{provided.plugin}' ({provided.dist} "
                f"{provided.version}); choose another name, for two of one name can only be used as DIST:{name}"
            )
    for record in plugins.records:
        if record.name == name:
            raise ConfigError(
                f"there is a plug-in '{name}' already, of {record.dist} {record.version} ({record.state}); choose another name"
            )


def write_distribution(name: str, target: Path) -> list[str]:
    """Write a complete distribution, in one step: what can fail fails before anything is there.

    Args:
        name: Name of the strategy, as `check_name` allows.
        target: The folder to make.

    Returns:
        The files, relative to `target`.

    Raises:
        StorageError: something is there already, or the folder above is missing or cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise StorageError(f"{target} is there already; nothing was written. Choose another folder with --out")
    parent = target.absolute().parent
    if not parent.is_dir():
        raise StorageError(f"{target}: its folder {parent} does not exist")
    words = name.split("_")
    fields = {
        "name": name,
        "dist": f"adapterhub-lite-{name.replace('_', '-')}",
        "module": f"adapterhub_lite_{name}",
        "class_name": "".join(word.capitalize() for word in words),
        "ours": metadata.version("adapterhub-lite"),
    }
    templates = resources.files(__name__) / "templates"
    written = {
        path.format(**fields): Template((templates / source).read_text("utf-8")).substitute(fields)
        for source, path in FILES.items()
    }
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=parent))
        try:
            for path, text in written.items():
                file = staging / "new" / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8", newline="\n")
            (staging / "new").rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror or error}") from error
    return list(written)

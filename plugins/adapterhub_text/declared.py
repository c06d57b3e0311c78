"""What sentence-transformers wrote beside a model about how its token features become one vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterhub_lite.api import CONFIG_LIMIT, read_object

# In the order in which sentence-transformers puts the vectors together: our name, the older spelling, the newer one.
SPELLINGS = (
    ("cls", "pooling_mode_cls_token", "cls"),
    ("max", "pooling_mode_max_tokens", "max"),
    ("mean", "pooling_mode_mean_tokens", "mean"),
    ("mean_sqrt_len", "pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    ("weightedmean", "pooling_mode_weightedmean_tokens", "weightedmean"),
    ("last", "pooling_mode_lasttoken", "lasttoken"),
)
FOLLOWED = ("Transformer", "Pooling", "Normalize", "Dropout")
"""Modules that are done here; dropout is off whenever features are compared."""


@dataclass(frozen=True)
class Declared:
    """What a folder says of pooling."""

    pooling: str | None = None
    """As `ModelMap.pooling`; None where it says nothing."""
    normalized: bool = False
    prompt: str = ""
    pools_prompt: bool = True
    not_done: str | None = None
    """What of it is not done here, in words."""


def declared_pooling(folder: Path | None) -> Declared:
    """Read modules.json, the configuration of the pooling it names, and the prompt that goes before every text.

    Raises:
        BaseNotFoundError: a file that is not what it should be.
    """
    if folder is None:
        return Declared()
    modules = [module for module in _read(folder / "modules.json", list) if isinstance(module, dict)]
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    paths = [str(m.get("path", "")) for m, kind in zip(modules, kinds, strict=True) if kind == "Pooling"]
    settings = _read(folder / Path((paths or ["1_Pooling"])[0]).name / "config.json", dict)
    names, unknown = _modes(settings)
    prompts = _read(folder / "config_sentence_transformers.json", dict)
    chosen = prompts.get("default_prompt_name")
    prompt = prompts.get("prompts", {}).get(chosen, "") if chosen else ""
    others = [f"a module {kind}" for kind in kinds if kind not in FOLLOWED] + [
        f"pooling by {name!r}" for name in unknown
    ]
    pools_prompt = settings.get("include_prompt") is not False
    if not pools_prompt and "weightedmean" in names:
        others.append("pooling by 'weightedmean' without the prompt")
    if not isinstance(prompt, str) or (chosen and not prompt):
        others.append(f"a default prompt {chosen!r} that is not among its prompts")
    return Declared(
        pooling="+".join(names) or None,
        normalized="Normalize" in kinds,
        prompt=str(prompt),
        pools_prompt=pools_prompt,
        not_done=", ".join(others) or None,
    )


def _read(path: Path, kind: type) -> Any:
    return read_object(path, CONFIG_LIMIT, kind) if path.is_file() else kind()


def _modes(settings: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Our names of the ways a configuration asks for, and those it asks for that have none."""
    given = settings.get("pooling_mode")
    if given is not None:
        asked = [str(mode) for mode in given] if isinstance(given, list) else [str(given)]
        known = {new: name for name, _, new in SPELLINGS}
    else:
        asked = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value]
        known = {old: name for name, old, _ in SPELLINGS}
    order = [name for name, _, _ in SPELLINGS]
    names = sorted({known[mode] for mode in asked if mode in known}, key=order.index)
    return names or (["mean"] if settings and not asked else []), [mode for mode in asked if mode not in known]

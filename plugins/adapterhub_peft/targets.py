"""The option `targets`: from words to paths of modules."""

from __future__ import annotations

from torch import nn

from adapterhub_lite.api import ConfigError, ModelView, NotSupportedError


def find_targets(view: ModelView, wanted: str, strategy: str) -> list[str]:
    """Resolve `targets` to paths.

    Args:
        view: The model.
        wanted: all-linear, attention, norms, embedding, or names separated by commas.
        strategy: For the messages.

    Raises:
        ConfigError: a name that fits no module with a weight; lists those there are.
        NotSupportedError: a kind of module that this model does not have.
    """
    match wanted:
        case "all-linear":
            paths = list(view.map.linears)
        case "attention":
            paths = list(view.map.attention_linears)
        case "norms":
            named = view.model.named_modules()
            paths = [p for p, module in named if "norm" in type(module).__name__.lower() and view.map.reaches(p)]
        case "embedding":
            embedding = view.model.get_input_embeddings() if view.map.modality == "text" else None
            paths = [path for path, module in view.model.named_modules() if module is embedding]
        case _:
            return _by_name(view, wanted, strategy)
    if not paths:
        raise NotSupportedError(
            f"{strategy}: targets={wanted}, and this {type(view.model).__name__} has none; use lora"
        )
    return paths


def is_transposed(module: nn.Module) -> bool:
    """Whether a layer stores its weight as (in_features, out_features), as GPT-2's does."""
    return type(module).__name__ == "Conv1D"


def _by_name(view: ModelView, wanted: str, strategy: str) -> list[str]:
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    named = view.model.named_modules()
    everything = [path for path, module in named if "weight" in module._parameters and view.map.reaches(path)]
    chosen: list[str] = []
    for name in names:
        paths = [path for path in everything if path == name or path.endswith(f".{name}")]
        if not paths:
            there = ", ".join(sorted({path.rpartition(".")[2] for path in view.map.linears}))
            raise ConfigError(f"{strategy}: targets={name} fits no weight of this model; there are: {there}")
        chosen += [path for path in paths if path not in chosen]
    if not chosen:
        raise ConfigError(f"{strategy}: targets is empty; use all-linear, attention or names separated by commas")
    return chosen

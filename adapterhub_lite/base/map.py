"""Where things are in a model, as data. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from adapterhub_lite.plugins.spec import Modality


@dataclass(frozen=True)
class ModelMap:
    """Where things are in a model: data found by introspection, or given by the hook `adapterhub_describe_model`."""

    modality: Modality
    hidden_size: int
    layers: tuple[str, ...]
    """Paths of the repeated blocks, first to last."""
    linears: tuple[str, ...]
    """Paths of the weight matrices inside the blocks (Linear, Conv1D and 2-d convolutions), in order."""
    attention_linears: tuple[str, ...]
    """Those of `linears` that belong to attention."""
    output: str | None
    """Path of the output embedding of a language model; None for a model without one."""
    pooling: str
    """How token or pixel features become one vector an example: a name of `adapterhub_lite.names.POOLINGS`, several of them
    joined by "+" for their vectors one behind the other, or "spatial" for a convolutional network."""
    causal: bool
    """Each position sees only those before it."""
    sees_padding: bool = False
    """What it makes of a text depends on the padding behind it, so that texts of one length alone are run together."""
    experts: tuple[str, ...] = ()
    """Paths of the parameters in the blocks that hold one weight matrix an expert: (experts, rows, columns)."""
    unreached: tuple[str, ...] = ()
    """Paths of the parts that no input of the task goes through, such as the vision tower of a model that is given texts."""
    example: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shape of each argument of the smallest input, for models of neither texts nor images; zeros are given for them."""

    def reaches(self, path: str) -> bool:
        """Whether an input goes through the module, or meets the parameter, at a path."""
        return not f"{path}.".startswith(tuple(f"{part}." for part in self.unreached))

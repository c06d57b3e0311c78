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
    example: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shape of each argument of the smallest input, for models of neither texts nor images; zeros are given for them."""

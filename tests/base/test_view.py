"""The model's map, and the view through which it is changed and put back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

# (layers, first layer, weights a layer, of those in attention, hidden size, output, pooling, causal, modality)
MAPS = {
    "tiny-bert": (2, "encoder.layer.0", 6, 4, 32, None, "mean", False, "text"),
    "minilm": (6, "encoder.layer.0", 6, 4, 384, None, "mean", False, "text"),
    "tiny-llama": (3, "model.layers.0", 7, 4, 32, "lm_head", "last", True, "text"),
    "smollm2": (30, "model.layers.0", 7, 4, 576, "lm_head", "last", True, "text"),
    "tiny-gpt2": (2, "transformer.h.0", 4, 2, 32, "lm_head", "last", True, "text"),
    "tiny-vit": (2, "layers.0", 6, 4, 32, None, "cls", False, "image"),
    "tiny-patchtst": (2, "encoder.layers.0", 6, 4, 32, None, "mean", False, "series"),
}
# (attention sites, heads, heads of keys and values, size of a head)
SITES = {
    "tiny-bert": (2, 4, 4, 8), "minilm": (6, 12, 12, 32), "tiny-llama": (3, 4, 2, 8), "smollm2": (30, 9, 3, 64),
    "tiny-gpt2": (2, 4, 4, 8), "tiny-vit": (2, 4, 4, 8), "tiny-patchtst": (2, 4, 4, 8), "mobilenet": (0, 0, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("model", MAPS)
def test_the_map(base: Any, model: str) -> None:
    layers, first, linears, attention, hidden, output, pooling, causal, modality = MAPS[model]
    described = base(model).map
    assert (len(described.layers), described.layers[0]) == (layers, first)
    assert len(described.linears) == layers * linears
    assert len(described.attention_linears) == layers * attention
    assert set(described.attention_linears) <= set(described.linears)
    assert (described.hidden_size, described.output, described.pooling) == (hidden, output, pooling)
    assert (described.causal, described.modality) == (causal, modality)


def test_the_map_of_a_convolutional_network(base: Any) -> None:
    loaded = base("mobilenet")
    assert len(loaded.map.layers) == 16
    kinds = [loaded.model.get_submodule(path) for path in loaded.map.linears]
    assert all(isinstance(kind, nn.Conv2d) and kind.groups == 1 for kind in kinds)
    assert (loaded.map.attention_linears, loaded.map.output) == ((), None)
    assert (loaded.map.hidden_size, loaded.map.pooling, loaded.map.modality) == (1280, "spatial", "image")


@pytest.mark.parametrize("model", SITES)
def test_the_places_of_attention(base: Any, bits: Any, model: str) -> None:
    """Looking for them runs the model, and changes nothing."""
    loaded = base(model)
    before = bits(loaded.model)
    sites = loaded.view("any").attention
    assert bits(loaded.model) == before
    count, *shape = SITES[model]
    assert len(sites) == count
    assert {(site.heads, site.kv_heads, site.head_dim) for site in sites} <= {tuple(shape)}
    assert {site.causal for site in sites} <= {loaded.map.causal}
    config = loaded.model.config
    if model in ("smollm2", "tiny-llama"):
        assert [site.kv_heads for site in sites] == [config.num_key_value_heads] * config.num_hidden_layers


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.inner(x) * self.scale
        return result


def surgery(model: Any) -> None:
    """What another library might do, by its own means."""
    layer = model.encoder.layer[0]
    layer.output.dense = Wrapped(layer.output.dense)  # a module replaced, the old one inside
    layer.intermediate.dense.weight.data = layer.intermediate.dense.weight.data * 2  # storage set anew
    layer.attention.self.query.weight = nn.Parameter(torch.zeros(32, 32))  # a parameter replaced
    layer.extra = nn.Linear(2, 2)  # a module added
    del model.encoder.layer[1].attention.output.dropout  # one removed
    model.encoder.layer[1].attention.output.dropout = nn.Identity()
    model.note_of_the_other_library = {"a": 1}
    model.encoder.layer[1].requires_grad_(True)


def test_recording_is_undone_to_the_bit(base: Any, bits: Any) -> None:
    loaded = base("tiny-bert")
    before, view = bits(loaded.model), loaded.view("any")
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        bare = loaded.model(input_ids=ids)[0]
        with view.recording():
            surgery(loaded.model)
        changed = loaded.model(input_ids=ids)[0]
        assert not torch.equal(changed, bare)
        for _ in range(2):
            view.unmount()
            assert bits(loaded.model) == before
            assert torch.equal(loaded.model(input_ids=ids)[0], bare)
            view.mount()
            assert torch.equal(loaded.model(input_ids=ids)[0], changed)
    view.unmount()
    assert bits(loaded.model) == before


def test_recording_of_what_failed_half_way_is_undone_too(base: Any, bits: Any) -> None:
    loaded = base("tiny-bert")
    before, view = bits(loaded.model), loaded.view("any")

    def fails() -> None:
        surgery(loaded.model)
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"), view.recording():
        fails()
    view.unmount()
    assert bits(loaded.model) == before


def test_all_kinds_of_change_at_once(base: Any, bits: Any) -> None:
    """Hooks, replaced modules, attention and trained weights: mounted, trained into, unmounted, mounted again."""
    loaded = base("tiny-bert", dtype="bfloat16")
    before, view = bits(loaded.model), loaded.view("any")
    ids = torch.arange(5, 15)[None]
    key = nn.Parameter(torch.randn(4, 2, 8))
    trained = view.train_base(["encoder.layer.1.output.dense.weight"])
    view.replace("encoder.layer.0.output.dense", Wrapped(view.module("encoder.layer.0.output.dense")))
    view.before("encoder.layer.1", lambda hidden: hidden * 1.1)
    view.after("encoder.layer.0", lambda hidden: hidden + 0.1)
    view.extend_attention(view.attention[0].path, lambda call: call.prepend(key, key))
    loaded.activate(view)
    loaded.model(input_ids=ids)[0].square().mean().backward()
    (weight,) = trained.values()
    assert weight.grad is not None
    assert key.grad is not None
    weight.data -= weight.grad
    weight.grad = None
    with torch.no_grad():
        changed = loaded.model(input_ids=ids)[0]
    loaded.activate(None)
    assert bits(loaded.model) == before
    loaded.activate(view)
    with torch.no_grad():
        assert torch.equal(loaded.model(input_ids=ids)[0], changed)
    assert view.unchanged(trained) == set()
    loaded.activate(None)
    view.forget()
    assert bits(loaded.model) == before

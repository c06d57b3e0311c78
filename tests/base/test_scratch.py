"""A base with random weights: the same architecture, none of the weights, and a reference that brings it back."""

from __future__ import annotations

import pytest
import torch

import adapterhub_lite as ah
from adapterhub_lite.errors import BaseNotFoundError, NotSupportedError
from adapterhub_lite.progress import Silent

TEXTS = {"text": ["good one", "bad one", "a good day", "a bad day"], "label": ["yes", "no", "yes", "no"]}


@pytest.fixture
def tiny(references):
    return references("tiny-bert")


def test_weights_are_new_and_the_rest_is_the_same(tiny):
    engine = ah.Engine(progress=Silent())
    base, scratch = engine.load_base(tiny), engine.load_base(f"scratch:3:{tiny}")
    old, new = base.model.state_dict(), scratch.model.state_dict()
    assert {name: tensor.shape for name, tensor in old.items()} == {name: t.shape for name, t in new.items()}
    matrices = [name for name, tensor in old.items() if tensor.dim() == 2]
    assert matrices
    assert not any(torch.equal(old[name], new[name]) for name in matrices)
    assert scratch.reference == f"scratch:3:{tiny}"
    assert scratch.fingerprint.architecture == base.fingerprint.architecture
    assert scratch.fingerprint.weights != base.fingerprint.weights
    assert not any(parameter.requires_grad for parameter in scratch.model.parameters())


def test_a_seed_is_a_base(tiny):
    engine = ah.Engine(progress=Silent())
    random = torch.get_rng_state()
    one, same, other = (engine.load_base(f"scratch:{seed}:{tiny}").fingerprint.weights for seed in (1, 1, 2))
    assert one == same != other
    assert torch.equal(torch.get_rng_state(), random)  # nobody else's random numbers are used up


def test_an_adapter_of_it_is_loaded_again(tiny, tmp_path):
    engine = ah.Engine(progress=Silent())
    data = engine.load_data(TEXTS, "text-classification")
    adapter = engine.train(engine.load_base(f"scratch:0:{tiny}"), data, strategy="full", config=ah.TrainConfig(steps=3))
    adapter.save(tmp_path / "adapter")
    again = engine.load_adapter(tmp_path / "adapter")
    assert [p.probabilities for p in again.predict(TEXTS["text"])] == [
        p.probabilities for p in adapter.predict(TEXTS["text"])
    ]


def test_batch_statistics_keep_activations_at_their_scale(shared):
    folder = shared / "models" / "mobilenet_v2"
    scratch = ah.Engine(progress=Silent()).load_base(f"scratch:0:{folder}")
    with torch.no_grad():
        hidden = scratch.model(pixel_values=torch.randn(4, 3, 96, 96)).last_hidden_state
    # Without statistics of its own the signal of 52 random layers would have died out or blown up.
    assert 1e-2 < float(hidden.std()) < 1e2


@pytest.mark.parametrize("reference", ["scratch:", "scratch:x:y", "scratch:-1:y", "scratch:1:"])
def test_references_that_are_none(reference):
    with pytest.raises(BaseNotFoundError, match="scratch:SEED:REFERENCE"):
        ah.Engine(progress=Silent()).load_base(reference)


def test_quantized_random_weights_are_refused(tiny):
    with pytest.raises(NotSupportedError, match="--quantize none"):
        ah.Engine(progress=Silent()).load_base(f"scratch:0:{tiny}", quantization="nf4")

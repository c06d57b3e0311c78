"""Activation offload: the same gradients to the bit, with everything large but the weights moved."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from adapterhub_lite.errors import TrainingError
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training import offload
from adapterhub_lite.training.offload import activation_offload
from adapterhub_text.tiny import texts

from .conftest import equal


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("model", ["encoder", "decoder"])
def test_training_is_the_same_to_the_bit(model, checkpointing, train, monkeypatch):
    monkeypatch.setattr(offload, "SMALL", 0)
    options = {"model": model, "activation_checkpointing": checkpointing}
    plain, ran = (train(activation_offload=wanted, **options) for wanted in (False, True))
    assert equal(plain.tensors, ran.tensors)
    assert plain.facts["train_loss"] == ran.facts["train_loss"]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_moved_and_weights_are_not(checkpointing, monkeypatch):
    """What waits on the CPU is a copy: here, where all is on the CPU, seen by its memory being another."""
    from adapterhub_lite.base.recompute import activation_checkpointing

    monkeypatch.setattr(offload, "SMALL", 256)
    base = tiny_base("decoder")
    weights = {p.untyped_storage().data_ptr() for p in base.model.parameters()}
    ids = torch.arange(1, 25)[None]
    prefix = torch.zeros(1, 24, 64, requires_grad=True)
    made = []
    real = torch.empty_like

    def empty_like(tensor, **options):
        made.append(tensor)
        return real(tensor, **options)

    monkeypatch.setattr(offload.torch, "empty_like", empty_like)
    base.model.train()
    with activation_checkpointing(base.model, checkpointing), activation_offload(base, True):
        inputs = base.model.get_input_embeddings()(ids) + prefix
        loss = functional.cross_entropy(base.model(inputs_embeds=inputs, use_cache=False).logits[0], ids[0])
    moved = [tensor for tensor in made if tensor.untyped_storage().data_ptr() not in weights]
    assert len(moved) == len(made)
    # With checkpointing two layers leave their input (24 tokens of 64 numbers) each, and the rest is what the head keeps.
    inside = [tensor for tensor in moved if tensor.shape == (1, 24, 64)]
    assert (len(inside) <= 6) if checkpointing else (len(inside) > 10)
    monkeypatch.setattr(offload.torch, "empty_like", real)
    (gradient,) = torch.autograd.grad(loss, prefix)
    base.model.eval()
    again = functional.cross_entropy(
        base.model(inputs_embeds=base.model.get_input_embeddings()(ids) + prefix, use_cache=False).logits[0], ids[0]
    )
    torch.testing.assert_close(gradient, torch.autograd.grad(again, prefix)[0])


def test_it_is_among_the_advice_when_one_example_does_not_fit(train, monkeypatch):
    from adapterhub_text.classification import TextClassification

    def out_of_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory (pretended)")

    monkeypatch.setattr(TextClassification, "logits", out_of_memory)
    with pytest.raises(TrainingError, match="--activation-offload"):
        train(data=texts())

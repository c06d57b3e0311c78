"""What a strategy may do while it is trained, by small strategies that each do one thing, against closed forms."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import sys
import threading
import time
import warnings
from types import ModuleType

import pytest
import torch
from torch import nn

from adapterhub_causal_lm.tiny import completions
from adapterhub_lite.api import Factors, StrategyConfig, StrategySpec, StrategyState, Traits, hookimpl
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import NotSupportedError, PluginError
from adapterhub_lite.plugins import guard
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.surroundings import CHANGING, OUTPUT, quiet, surroundings_kept
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig
from adapterhub_text.tiny import texts

from .conftest import equal
from .test_resume import Killed, killed_after


class Config(StrategyConfig):
    """Options of the strategies here."""

    size: int = 3


class Shift:
    """A trained shift of every feature behind the first layer, and a second parameter that does next to nothing by itself.

    So little that no output differs, and no step of its own moves it; but a gradient meets it.
    """

    def attach(self, view, config):
        self.shift = nn.Parameter(torch.zeros(view.map.hidden_size))
        self.other = nn.Parameter(torch.ones(config.size, 2))
        view.after(view.map.layers[0], lambda hidden: hidden + self.shift + 1e-30 * self.other.sum())
        return {"shift": self.shift, "other": self.other}


def plugins_with(strategy):
    plugin = ModuleType("protocol_plugin")
    spec = StrategySpec(name="own", summary="Under test.", config=Config, load=strategy, learning_rate=1e-2)
    plugin.adapterhub_strategies = hookimpl(lambda: [spec])
    plugins = Plugins()
    plugins.register(plugin)
    return plugins


def run(strategy, model="encoder", folder=None, resume=False, settings=None, data=None, **options):
    base = tiny_base(model)
    data = data or (texts() if model == "encoder" else completions())
    config = TrainConfig(**{"steps": 4, "batch_size": 8, "learning_rate": 1e-2, **options})
    engine = Engine(plugins_with(strategy), Silent())
    return engine.train(
        base, data, strategy="own", settings=settings or {}, config=config, run_folder=folder, resume=resume
    )


def logged(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class WithPenalty(Shift):
    def penalty(self, config, parameters):
        return {"size": 0.5 * (parameters["other"] ** 2).sum()}


def test_a_penalty_counts_once_an_update_whatever_the_micro_batch(tmp_path):
    options = {"steps": 1, "batch_size": 8, "clip": 1e9, "schedule": "constant", "warmup": 0.0}
    lines = []
    for micro in (8, 2):
        run(WithPenalty, folder=tmp_path / f"{micro}", micro_batch_size=micro, **options)
        lines += logged(tmp_path / f"{micro}")
    run(Shift, folder=tmp_path / "without", **options)
    (without,) = logged(tmp_path / "without")
    for line in lines:
        assert line["penalty/size"] == pytest.approx(0.5 * 6)  # 3 x 2 ones
        assert line["loss"] == pytest.approx(without["loss"] + 3.0, rel=1e-5)
        # The gradient of the penalty is the parameter itself: 6 ones beside the gradient of the task's loss.
        assert line["grad_norm"] ** 2 == pytest.approx(without["grad_norm"] ** 2 + 6, rel=1e-4)


class WithGroups(WithPenalty):
    def groups(self, config, parameters):
        return {"other": Factors(learning_rate=16.0, weight_decay=0.0)}


def test_factors_multiply_rate_and_decay_of_one_parameter():
    options = {"steps": 1, "schedule": "constant", "warmup": 0.0, "weight_decay": 0.5, "learning_rate": 1e-3}
    plain = run(WithPenalty, **options).attachment.parameters["other"]
    grouped = run(WithGroups, **options).attachment.parameters["other"]
    # The first step of AdamW moves each number by the rate, after decay by rate * decay.
    assert torch.allclose(plain, torch.full((3, 2), (1 - 1e-3 * 0.5) - 1e-3), atol=1e-6)
    assert torch.allclose(grouped, torch.full((3, 2), 1 - 16e-3), atol=1e-6)


class Averaging(WithPenalty):
    """Keeps an average of the gradients, and sets the smallest entries of `other` to zero after each step."""

    def attach(self, view, config):
        self.average, self.calls = torch.zeros(config.size, 2), 0
        return super().attach(view, config)

    def after_step(self, view, config, parameters, step, total):
        self.calls += 1
        assert self.calls == step <= total
        self.average.lerp_(parameters["other"].grad + 0.1 * torch.rand(config.size, 2), 0.3)
        parameters["other"][self.average < self.average.median()] = 0

    def state(self):
        return StrategyState({"average": self.average}, {"calls": self.calls}, in_file=("average", "calls"))

    def load_state(self, state):
        self.average.copy_(state.tensors["average"])
        self.calls = state.values["calls"]


def test_state_and_schedule_go_on_where_they_were(tmp_path, monkeypatch):
    options = {"steps": 6, "checkpoint_every": 2}
    whole = run(Averaging, folder=tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        killed_after(patch, 5)
        with pytest.raises(Killed):
            run(Averaging, folder=tmp_path / "cut", **options)
    resumed = run(Averaging, folder=tmp_path / "cut", resume=True, **options)
    assert equal(dict(resumed.attachment.tensors), dict(whole.attachment.tensors))
    assert torch.equal(resumed.attachment.strategy.average, whole.attachment.strategy.average)
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")
    assert int((whole.attachment.parameters["other"] == 0).sum()) >= 2

    whole.save(tmp_path / "saved")
    average = whole.attachment.strategy.average.clone()
    whole.detach()
    engine = Engine(plugins_with(Averaging), Silent())
    loaded = engine.load_adapter(tmp_path / "saved", base=whole.base)
    assert torch.equal(loaded.attachment.strategy.average, average)
    assert loaded.attachment.strategy.calls == 6


class Prepared(Shift):
    """Makes `other` as large as a number that it counts in the data, and starts the shift from a gradient."""

    def prepare(self, view, config, parameters, batches):
        path = view.map.linears[0]
        weight = view.weight(path)
        first = next(iter(batches))
        gradient = first.gradients([path])[path]
        given = first.layer_inputs([path])[path]
        assert gradient.shape == weight.shape
        assert given.shape == (int(first.inputs["attention_mask"].sum()), weight.shape[1])
        self.seen = gradient, first.loss(), path
        size = len(first.inputs["targets"])
        parameters["shift"].data.fill_(0.25)
        self.other = nn.Parameter(torch.ones(size, 2))
        return config.model_copy(update={"size": size}), {**parameters, "other": self.other}


def test_a_start_from_data_sees_batches_and_may_change_shapes(tmp_path, monkeypatch):
    options = {"steps": 6, "checkpoint_every": 2, "batch_size": 5}
    whole = run(Prepared, folder=tmp_path / "whole", **options)
    assert whole.attachment.config.size == 5
    assert whole.attachment.parameters["other"].shape == (5, 2)
    with monkeypatch.context() as patch:
        killed_after(patch, 5)
        with pytest.raises(Killed):
            run(Prepared, folder=tmp_path / "cut", **options)
    resumed = run(Prepared, folder=tmp_path / "cut", resume=True, **options)
    assert not hasattr(resumed.attachment.strategy, "seen"), "a run that goes on does not start again"
    assert equal(dict(resumed.attachment.tensors), dict(whole.attachment.tensors))
    whole.save(tmp_path / "saved")
    whole.detach()
    loaded = Engine(plugins_with(Prepared), Silent()).load_adapter(tmp_path / "saved", base=whole.base)
    assert loaded.attachment.parameters["other"].shape == (5, 2)


def test_gradients_of_the_bare_base_are_those_of_autograd():
    class Checked(Shift):
        def prepare(self, view, config, parameters, batches):
            parameters["shift"].data.fill_(3.0)  # which the bare base does not have
            first = next(iter(batches))
            paths = [view.map.linears[0], view.map.linears[-1]]
            ours = first.gradients(paths)
            weights = [view.module(path).weight for path in paths]
            view.unmount()
            for weight in weights:
                weight.requires_grad_(True)
            theirs = torch.autograd.grad(first.loss(), weights)
            for weight in weights:
                weight.requires_grad_(False)
            view.mount()
            for path, expected in zip(paths, theirs, strict=True):
                assert torch.allclose(ours[path], expected, atol=1e-6)
            assert float(first.loss().detach()) != pytest.approx(float(first.loss(adapted=True).detach()), abs=1e-4)

    run(Checked, steps=1)


def test_gradients_that_a_start_leaves_behind_do_not_count(tmp_path):
    class Leaving(Shift):
        def prepare(self, view, config, parameters, batches):
            (1e3 * next(iter(batches)).loss(adapted=True)).backward()

    for name, strategy in (("left", Leaving), ("plain", Shift)):
        run(strategy, folder=tmp_path / name, steps=1)
    assert logged(tmp_path / "left")[0]["grad_norm"] == pytest.approx(logged(tmp_path / "plain")[0]["grad_norm"])


class NearBase(Shift):
    """Adds the squared distance of the outputs from the base's."""

    def output_loss(self, batch, outputs, teacher):
        self.distance = ((outputs - teacher()) ** 2).mean(dim=1)
        return self.distance


@pytest.mark.parametrize("model", ["encoder", "decoder"])
def test_a_loss_on_outputs_has_the_bare_base_as_teacher(model, tmp_path):
    options = {"steps": 2, "batch_size": 8, "clip": 1e9, "schedule": "constant", "warmup": 0.0}
    runs = [run(NearBase, model, tmp_path / f"{micro}", micro_batch_size=micro, **options) for micro in (8, 4, 1)]
    alone = run(Shift, model, tmp_path / "alone", **options)
    del alone
    lines = [logged(tmp_path / name) for name in ("8", "4", "1", "alone")]
    assert lines[0][0]["loss"] == pytest.approx(lines[3][0]["loss"], rel=1e-5), "at the start there is no distance"
    for other in lines[1:3]:
        for key in ("loss", "grad_norm"):
            assert [line[key] for line in other] == pytest.approx([line[key] for line in lines[0]], rel=1e-4)
    assert float(runs[0].attachment.strategy.distance.detach().sum()) > 0


class WithTokens(Shift):
    def attach(self, view, config):
        self.ids = view.add_tokens(["<alpha>", "<beta>"])
        self.contexts = []
        view.before(view.map.layers[0], lambda hidden: self.note(view, hidden))
        return super().attach(view, config)

    def note(self, view, hidden):
        context = view.context
        if context is None:  # the model is called by hand
            return hidden
        self.contexts.append((context.lengths, context.segments, context.positions, context.task_ids))
        return hidden


@pytest.mark.parametrize("model", ["encoder", "decoder"])
def test_added_tokens_are_of_this_adapter_alone(model, tmp_path):
    base = tiny_base(model)
    tokenizer, before = base.tokenizer, len(base.tokenizer)
    data = texts() if model == "encoder" else completions()
    engine = Engine(plugins_with(WithTokens), Silent())
    config = TrainConfig(steps=3, batch_size=8, learning_rate=1e-2)
    adapter = engine.train(base, data, strategy="own", config=config)
    assert adapter.attachment.strategy.ids == [before, before + 1]
    assert len(base.tokenizer) == before + 2
    assert base.tokenizer("x <beta> y", add_special_tokens=False)["input_ids"].count(before + 1) == 1
    lengths, segments, positions, task_ids = adapter.attachment.strategy.contexts[0]
    assert task_ids is None
    assert torch.equal(lengths, (segments >= 0).sum(1))
    assert int(positions.max()) == int(lengths.max()) - 1
    if model == "encoder":  # with another adapter on the base the texts are still cut up by this one's tokenizer
        before_use = [output.probabilities for output in adapter.predict(["x <beta> y", "<alpha>"])]
        with adapter.disabled():
            within = [output.probabilities for output in adapter.predict(["x <beta> y", "<alpha>"])]
        assert within == before_use
        assert before_use[0] != adapter.predict(["x beta y"])[0].probabilities
    else:
        adapter.generate("x <beta>", max_new_tokens=2)
        assert int(adapter.attachment.strategy.contexts[-1][0]) == len(base.tokenizer("x <beta>")["input_ids"])
    rows = {name: tensor.detach().clone() for name, tensor in adapter.attachment.tensors.items() if "tokens." in name}
    assert rows["tokens.embedding"].shape == (2, base.map.hidden_size)
    with adapter.disabled():
        assert base.tokenizer is tokenizer
    adapter.save(tmp_path / "saved")
    adapter.detach()
    assert base.tokenizer is tokenizer
    assert len(tokenizer) == before
    loaded = engine.load_adapter(tmp_path / "saved", base=base)
    assert equal({name: loaded.attachment.tensors[name].detach() for name in rows}, rows)
    if model == "decoder":
        ids = torch.tensor([[3, before, before + 1]])
        with torch.no_grad():
            logits = base.model(input_ids=ids).logits
        loaded.detach()
        with torch.no_grad():
            assert logits.shape[-1] == max(base.model(input_ids=ids[:, :1]).logits.shape[-1], before + 2)


def test_the_bare_base_is_not_asked_about_tokens_that_it_does_not_know():
    class Both(WithTokens, NearBase):
        def attach(self, view, config):
            self.ids = view.add_tokens(["one"] if "one" not in view.tokenizer.get_vocab() else ["<new>"])
            return Shift.attach(self, view, config)

    rows = dataclasses.replace(texts(), inputs=tuple(f"{text} <new> one" for text in texts().inputs))
    with pytest.raises(NotSupportedError, match="'own' adds tokens, and the bare base knows nothing of them"):
        run(Both, data=rows, steps=1)


def attach_written(self, view, config):
    with torch.no_grad():
        view.module(view.map.linears[0]).weight.add_(0)  # the base's own weight, in place
    return Shift.attach(self, view, config)


def bad(**methods):
    """A class like Shift with other methods."""
    return type("Bad", (Shift,), methods)


def shrunk(self, view, config, parameters, step, total):
    parameters["other"].data = parameters["other"].data[:1]


def broken(self, view, config, parameters, step, total):
    parameters["other"].fill_(float("nan"))


def ends(*_):
    raise SystemExit(0)


def hooked(self, view, config, parameters, step, total):
    view.module(view.map.linears[0]).register_forward_hook(lambda *_: None)


FAULTS = {
    "attach ends the program": (bad(attach=ends), "in attach failed: SystemExit"),
    "attach returns no mapping": (bad(attach=lambda s, v, c: [1]), "in attach returned list, not a mapping"),
    "attach writes into the base": (bad(attach=attach_written), "in attach changed the base outside its view: tensor"),
    "attach gives the base's own weight": (
        bad(attach=lambda s, view, c: {"w": view.module(view.map.linears[0]).weight}),
        "in attach returned 'w', which shares its storage with the base",
    ),
    "attach gives one parameter twice": (
        bad(attach=lambda s, v, c: dict.fromkeys("ab", Shift.attach(s, v, c)["shift"])),
        "in attach returned 'b', which has the storage of 'a'",
    ),
    "attach gives values that are not finite": (
        bad(attach=lambda s, v, c: {"a": nn.Parameter(torch.full((2,), float("inf")))}),
        "in attach returned 'a', which has values that are not finite",
    ),
    "groups names nobody": (bad(groups=lambda s, c, p: {"nobody": Factors()}), "in groups names 'nobody'"),
    "groups gives numbers": (bad(groups=lambda s, c, p: {"other": 16.0}), "in groups gives float for 'other', not Factors"),
    "penalty ends the program": (bad(penalty=ends), "in penalty at step 1 failed: SystemExit"),
    "penalty gives a vector": (bad(penalty=lambda s, c, p: p["shift"]), "in penalty at step 1 returned Parameter of shape"),
    "output_loss gives another shape": (
        bad(output_loss=lambda s, b, o, t: o), "in output_loss at step 1 returned Tensor of shape",
    ),
    "after_step changes a shape": (bad(after_step=shrunk), "in after_step at step 1 changed the shape of 'other'"),
    "after_step breaks values": (bad(after_step=broken), "in after_step at step 1 left values that are not finite in 'other'"),
    "after_step leaves a hook in the base": (
        bad(after_step=hooked),
        "in training at step 1 changed the base outside its view: a hook of module .* was changed",
    ),
    "after_step changes the configuration": (
        bad(after_step=lambda s, view, *_: setattr(view.model.config, "vocab_size", 3)),
        "in training at step 1 changed the base outside its view: the base's config was changed",
    ),
    "after_step changes the tokenizer": (
        bad(after_step=lambda s, view, *_: view.tokenizer.add_tokens(["<new>"])),
        "in training at step 1 changed the base outside its view: the tokenizer was changed",
    ),
    "state is no StrategyState": (bad(state=lambda s: {}, load_state=lambda s, x: None), "in state at step 1 returned dict"),
    "prepare gives a config that cannot be saved": (
        bad(prepare=lambda s, v, c, p, b: (c.model_copy(update={"size": torch.tensor(3)}), p)),
        "in prepare returned a config that cannot be saved",
    ),
    "prepare gives shapes that attach does not": (
        bad(prepare=lambda s, v, c, p, b: {**p, "other": nn.Parameter(torch.ones(9, 2))}),
        r"in prepare made 'other' \(9, 2\) where attach .* makes \(3, 2\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_protocol_that_misbehaves_is_named_and_the_base_is_as_it_was(fault, tmp_path):
    strategy, message = FAULTS[fault]
    base = tiny_base("encoder")
    config = TrainConfig(steps=2, batch_size=8, checkpoint_every=1)
    engine = Engine(plugins_with(strategy), Silent())
    with pytest.raises(PluginError, match=f"strategy 'own' .*{message}"):
        engine.train(base, texts(), strategy="own", config=config, run_folder=tmp_path / "run")
    assert not list(tmp_path.glob("run/checkpoints/step-00000002"))
    assert base.active is None


def test_a_penalty_that_is_not_finite_is_not_applied(tmp_path):
    class Sometimes(Shift):
        step = 0

        def penalty(self, config, parameters):
            self.step += 1
            return parameters["other"].sum() * (float("nan") if self.step == 2 else 0.0)

    run(Sometimes, folder=tmp_path, steps=3)
    assert [line["applied"] for line in logged(tmp_path)] == [True, False, True]


def test_what_a_protocol_changes_in_the_process_is_put_back_and_named(caplog):
    caplog.set_level("INFO", "adapterhub_lite")

    class Careless(Shift):
        def penalty(self, config, parameters):
            torch.set_default_dtype(torch.float64)
            torch.rand(1)
            return parameters["other"].sum() * 0

    expected = run(Shift).attachment.tensors
    with pytest.warns(RuntimeWarning) as warned:
        tensors = run(Careless).attachment.tensors
    said = [str(warning.message) for warning in warned]
    assert torch.get_default_dtype() == torch.float32
    assert sum("in penalty at step 1 changed torch's default dtype; it was put back" in line for line in said) == 1
    assert [line.partition(" in ")[2] for line in caplog.messages] == [
        "penalty at step 1 draws random numbers, from a stream of its own"
    ]
    assert all(torch.equal(tensors[name], expected[name]) for name in expected if name != "other")


def test_state_that_grows_without_bound_ends_the_run(tmp_path):
    class Growing(Shift):
        def attach(self, view, config):
            self.kept = [torch.zeros(1 << 19)]
            return super().attach(view, config)

        def after_step(self, view, config, parameters, step, total):
            self.kept.append(torch.zeros(1 << 19))

        def state(self):
            return StrategyState({"kept": torch.cat(self.kept)})

        def load_state(self, state):
            raise AssertionError("nothing is resumed here")

    with pytest.raises(PluginError, match=r"in state at step \d has grown to \d+ bytes from"):
        run(Growing, folder=tmp_path, steps=8, checkpoint_every=1)


def test_a_protocol_that_takes_a_good_part_of_a_step_is_named(caplog):
    class Slow(Shift):
        def penalty(self, config, parameters):
            time.sleep(0.1)
            return parameters["other"].sum() * 0

    run(Slow, steps=8)
    (line,) = (message for message in caplog.messages if "of the time" in message)
    assert re.search(r"strategy 'own' .* in penalty at step 6 takes \d+ % of the time of a step", line)


def test_traits_may_depend_on_the_options():
    plugin = ModuleType("by_options")
    traits = Traits(identity_at_init=True)
    spec = StrategySpec(
        name="own", summary="Under test.", config=Config, load=Shift, traits=traits,
        traits_for=lambda config: dataclasses.replace(traits, works_on_quantized_base=config.size < 5),
    )  # fmt: skip
    plugin.adapterhub_strategies = hookimpl(lambda: [spec])
    plugins = Plugins()
    plugins.register(plugin)
    assert spec.traits_of(Config(size=3)).works_on_quantized_base
    engine, base = Engine(plugins, Silent()), tiny_base("decoder", quantization="nf4")
    with pytest.raises(
        NotSupportedError, match=r"strategy 'own' with size=5 needs an unquantized base, .* or another size"
    ):
        engine.train(base, completions(), strategy="own", settings={"size": 5})
    config = TrainConfig(steps=1, batch_size=8)
    assert engine.train(base, completions(), strategy="own", settings={"size": 3}, config=config).training["steps"] == 1


def test_an_instance_belongs_to_one_adapter():
    shared = Shift()
    engine, data = Engine(plugins_with(lambda: shared), Silent()), texts()
    config = TrainConfig(steps=1, batch_size=8)
    engine.train(tiny_base("encoder"), data, strategy="own", config=config)
    with pytest.raises(PluginError, match=r"strategy 'own' .* loads the same object again"):
        engine.train(tiny_base("encoder"), data, strategy="own", config=config)


def test_a_call_that_does_not_return_is_named(monkeypatch, caplog):
    class Hanging(Shift):
        def after_step(self, view, config, parameters, step, total):
            time.sleep(0.5)

    monkeypatch.setattr(guard, "PATIENCE", 0.2)
    run(Hanging, steps=1)
    assert any("still waiting for strategy 'own'" in m and "in after_step at step 1" in m for m in caplog.messages)


def test_a_plug_in_is_told_what_base_is_wanted():
    asked = []
    plugin = ModuleType("bases")

    def load_base(ref, quantization, dtype, device, revision):
        asked.append((ref, quantization, dtype, device, revision))
        return tiny_base("encoder").model if ref.startswith("vault:") else None

    plugin.adapterhub_load_base = hookimpl(load_base, specname="adapterhub_load_base")
    plugins = Plugins()
    plugins.register(plugin)
    Engine(plugins, Silent()).load_base("vault:mine@v2", dtype="bfloat16", device="cpu")
    assert asked == [("vault:mine@v2", "none", "bfloat16", "cpu", "v2")]


def test_a_model_that_another_thread_loads_changes_no_setting_for_good():
    loading, done, ended = threading.Event(), threading.Event(), threading.Event()

    def load():  # as transformers does: torch's default dtype is another one until the model is there
        with CHANGING:
            torch.set_default_dtype(torch.bfloat16)
            loading.set()
            done.wait(10)
            torch.set_default_dtype(torch.float32)

    def call():
        loading.wait(10)
        with surroundings_kept(lambda what: None):
            pass
        ended.set()

    threads = [threading.Thread(target=load), threading.Thread(target=call)]
    for thread in threads:
        thread.start()
    loading.wait(10)
    assert not ended.wait(0.2), "a call looks at the settings when nobody is changing them"
    done.set()
    for thread in threads:
        thread.join(10)
    assert torch.get_default_dtype() == torch.float32


def test_output_that_another_thread_sends_aside_is_no_change_and_comes_back():
    """Two threads ask plug-ins, and neither ends before the other began: the stream of each of them was wrong then."""
    own, said, first, second = sys.stdout, [], threading.Event(), threading.Event()

    def ask():
        with OUTPUT.aside():
            first.set()
            second.wait(10)

    thread = threading.Thread(target=ask)
    thread.start()
    first.wait(10)
    with surroundings_kept(said.append), OUTPUT.aside():
        second.set()
        thread.join(10)
        assert sys.stdout is sys.stderr, "what this thread's plug-ins print is still aside"
    assert (said, sys.stdout) == ([], own)


def test_output_that_was_changed_is_put_back_while_another_thread_asks():
    own, said = sys.stdout, []
    with OUTPUT.aside(), surroundings_kept(said.append):
        OUTPUT.put(io.StringIO())
    assert said == ["changed standard output; it was put back"]
    assert sys.stdout is own


def test_warnings_held_back_in_two_threads_are_shown_again():
    """Each would otherwise put back the filters that the other one had just set."""
    before, inside = list(warnings.filters), threading.Event()

    def hold():
        with quiet():
            inside.set()
            time.sleep(0.1)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(10)
    with quiet():
        thread.join(10)
        assert not thread.is_alive(), "one waits for the other"
    assert warnings.filters == before

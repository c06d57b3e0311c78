"""The examples of docs/strategy-protocols.md: each is trained, killed, resumed, saved, loaded and taken off."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from adapterhub_causal_lm.tiny import completions
from adapterhub_lite.api import BatchContext, StrategySpec, hookimpl
from adapterhub_lite.engine import Engine
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig
from adapterhub_text.tiny import texts
from docs import protocol_examples
from docs.make_protocols import PROTOCOLS

from .conftest import equal
from .test_protocols import logged
from .test_resume import Killed, killed_after

EXAMPLES = {example for _, example, _ in PROTOCOLS} | {protocol_examples.NewToken, protocol_examples.FirstTokens}


def engine_with(strategy):
    plugin = ModuleType("from_the_document")
    spec = StrategySpec(
        name="own", summary="Shown.", config=protocol_examples.Config, load=strategy, learning_rate=1e-2
    )
    plugin.adapterhub_strategies = hookimpl(lambda: [spec])
    plugins = Plugins()
    plugins.register(plugin)
    return Engine(plugins, Silent())


def run(strategy, model, folder, *, resume=False):
    config = TrainConfig(steps=6, batch_size=8, learning_rate=1e-2, checkpoint_every=2)
    base, data = tiny_base(model), texts() if model == "encoder" else completions()
    return engine_with(strategy).train(base, data, strategy="own", config=config, run_folder=folder, resume=resume)


@pytest.mark.parametrize("model", ["encoder", "decoder"])
@pytest.mark.parametrize("strategy", sorted(EXAMPLES, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_an_example_is_trained_killed_resumed_saved_and_loaded(strategy, model, tmp_path, monkeypatch):
    whole = run(strategy, model, tmp_path / "whole")
    with monkeypatch.context() as patch:
        killed_after(patch, 5)
        with pytest.raises(Killed):
            run(strategy, model, tmp_path / "cut")
    resumed = run(strategy, model, tmp_path / "cut", resume=True)
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")
    assert equal(dict(resumed.attachment.tensors), dict(whole.attachment.tensors))
    state = whole.attachment.state().tensors
    assert equal(dict(resumed.attachment.state().tensors), dict(state))
    scores = whole.evaluate(texts() if model == "encoder" else completions()).metrics
    whole.save(tmp_path / "saved")
    whole.detach()
    loaded = engine_with(strategy).load_adapter(tmp_path / "saved", base=whole.base)
    assert loaded.evaluate(texts() if model == "encoder" else completions()).metrics == scores
    if model == "decoder":
        with torch.no_grad():
            for parameter in loaded.attachment.parameters.values():
                parameter.add_(torch.randn_like(parameter))
        whole_text, base = [3, 4, 5, 6], loaded.base
        for _ in range(4):  # without a cache: the whole text again for each token
            loaded.attachment.view.context = BatchContext({"input_ids": torch.tensor([whole_text])})
            with torch.no_grad():
                whole_text.append(int(base.model(input_ids=torch.tensor([whole_text])).logits[0, -1].argmax()))
        with loaded.attachment.running(BatchContext({"input_ids": torch.tensor([whole_text[:4]])})):
            ids = torch.tensor([whole_text[:4]])
            cached = base.model.generate(ids, max_new_tokens=4, do_sample=False, eos_token_id=None, pad_token_id=0)
        assert cached[0].tolist() == whole_text


def test_each_does_what_it_says(tmp_path):
    kinds = {kind.__name__: run(kind, "encoder", tmp_path / kind.__name__).attachment for kind in EXAMPLES}
    plain = kinds["LowRank"].parameters
    name = next(name for name in plain if name.endswith(".down"))
    path = name.removesuffix(".down")

    def distance(kind):  # from rows that are orthonormal
        down = kinds[kind].parameters[name].detach()
        return float((down @ down.T - torch.eye(4)).square().sum())

    assert distance("Orthogonal") < 0.7 * distance("LowRank")
    assert distance("FromInputs") < 0.1, "directions of a singular value decomposition are orthonormal"
    growth = {kind: float(kinds[kind].parameters[f"{path}.up"].detach().norm()) for kind in ("LowRank", "TwoRates")}
    assert growth["TwoRates"] > 4 * growth["LowRank"]
    assert int((kinds["Pruned"].parameters[f"{path}.up"] == 0).all(dim=0).sum()) >= 1
    assert kinds["NewToken"].parameters["tokens.embedding"].shape[0] == 1
    assert float(kinds["FirstTokens"].parameters["shift"].detach().abs().sum()) > 0
    losses = {kind: [line["loss"] for line in logged(tmp_path / kind)] for kind in ("LowRank", "NearBase")}
    assert losses["NearBase"][0] == pytest.approx(losses["LowRank"][0], rel=1e-5), "at the start there is no divergence"
    assert losses["NearBase"][-1] > losses["LowRank"][-1]

"""The conformance kit, and what it cannot know about LoReFT."""

import pytest
import torch
from adapterhub_lite.api import ConfigError
from adapterhub_lite.testing import parametrize_with_checks, tiny_base

from adapterhub_lite_reft import ReftConfig, adapterhub_strategies
from adapterhub_lite_reft.strategy import Reft

(spec,) = adapterhub_strategies()


@parametrize_with_checks(spec)
def test_reft(check):
    check()


def test_only_the_chosen_layers_are_changed_and_only_in_a_subspace():
    base = tiny_base("decoder")
    view = base.view("causal-lm")
    seen = []
    handle = base.model.get_submodule(base.map.layers[-1]).register_forward_hook(lambda m, i, out: seen.append(out))
    parameters = Reft().attach(view, ReftConfig(rank=2, layers=(-1,)))
    assert len(parameters) == 3
    with torch.no_grad():
        for name, parameter in parameters.items():
            if not name.endswith(".basis"):
                parameter.normal_()
        base.model(input_ids=torch.tensor([[1, 2, 3, 4, 5, 6]]))
        before = seen[0]  # our hook was there first, so it sees what the layer gave
        view.unmount()
        handle.remove()
    basis = next(p for name, p in parameters.items() if name.endswith(".basis"))
    from adapterhub_lite_reft.strategy import _intervention

    change = (_intervention(*parameters.values())(before) - before)[0]
    assert torch.linalg.matrix_rank(change.detach(), rtol=1e-4) == 2
    rows = torch.linalg.qr(basis).Q.T
    torch.testing.assert_close(rows @ rows.T, torch.eye(2))


@pytest.mark.parametrize(("options", "words"), [({"layers": (9,)}, "layers"), ({"rank": 9999}, "rank")])
def test_what_the_model_does_not_have_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        Reft().attach(tiny_base("encoder").view("text-classification"), ReftConfig(**options))

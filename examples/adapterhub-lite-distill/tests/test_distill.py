"""The conformance kit, and what it cannot know: the adapter stays nearer to the base than without its teacher."""

import torch
from adapterhub_lite.api import StrategyConfig
from adapterhub_lite.testing import parametrize_with_checks

from adapterhub_lite_distill import DistillConfig, adapterhub_strategies
from adapterhub_lite_distill.strategy import Distill

(spec,) = adapterhub_strategies()


@parametrize_with_checks(spec)
def test_distill(check):
    check()


def test_the_divergence_is_that_of_the_softened_outputs():
    strategy = Distill()
    strategy.config = DistillConfig(weight=0.5, temperature=2.0)
    assert isinstance(strategy.config, StrategyConfig)
    ours, theirs = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    given = strategy.output_loss({}, ours, lambda: theirs)
    p = torch.sigmoid(torch.tensor(1.0))  # of 2.0 / T and 0.0 / T
    expected = 0.5 * 4 * -0.5 * (torch.log(2 * p) + torch.log(2 * (1 - p)))
    torch.testing.assert_close(given, torch.stack([expected, torch.tensor(0.0)]))


def test_without_weight_the_base_is_not_asked():
    strategy = Distill()
    strategy.config = DistillConfig(weight=0.0)
    assert strategy.output_loss({}, torch.ones(3, 2), lambda: 1 / 0).tolist() == [0, 0, 0]

"""The kit in one line of pytest, which is imported here and only when asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from adapterhub_lite.plugins.spec import StrategyConfig, StrategySpec
from adapterhub_lite.testing.run import bound_checks

if TYPE_CHECKING:
    import pytest

    from adapterhub_lite.testing.tiny_model import TinyModel


def parametrize_with_checks(
    spec: StrategySpec,
    *,
    config: StrategyConfig | None = None,
    models: Sequence[str | TinyModel] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    checks: Sequence[str] | None = None,
) -> pytest.MarkDecorator:
    """Parametrize a test with the checks of a strategy; the test takes one argument, `check`, and calls it.

    An expected failure is a strict xfail with its reason. The arguments are those of `check_strategy`.

    Example:
        @parametrize_with_checks(spec)
        def test_strategy(check):
            check()
    """
    import pytest

    parameters = []
    for bound in bound_checks(spec, config=config, models=models, expected_failures=expected_failures, checks=checks):
        marks = [] if bound.expected is None else [pytest.mark.xfail(reason=bound.expected, strict=True)]
        parameters.append(pytest.param(bound, id=bound.id, marks=marks))
    return pytest.mark.parametrize("check", parameters)

"""Running the checks: one after the other, each on fresh models, none stopped by another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.plugins.spec import StrategyConfig, StrategySpec
from adapterhub_lite.tasks.spec import TaskSpec
from adapterhub_lite.testing.bench import Bench
from adapterhub_lite.testing.bound import BoundCheck, bind
from adapterhub_lite.testing.check import CheckResult
from adapterhub_lite.testing.checks import all_checks
from adapterhub_lite.testing.models import brought_models, choose_models
from adapterhub_lite.testing.observer_bench import bound_observer_checks
from adapterhub_lite.testing.task_bench import bound_task_checks
from adapterhub_lite.testing.tiny_model import TinyModel

if TYPE_CHECKING:
    import pytest


def bound_checks(
    spec: StrategySpec,
    config: StrategyConfig | None = None,
    models: Sequence[str | TinyModel] | None = None,
    *,
    expected_failures: Mapping[str, str] | None = None,
    checks: Sequence[str] | None = None,
) -> Iterator[BoundCheck]:
    """Generate the checks of a strategy, bound to it and to the models, in the order in which they should run.

    Raises:
        ConfigError: a check, model or expected failure that does not exist.
    """
    chosen = choose_models(models)
    if not chosen:
        raise ConfigError("there is no model to check on")
    benches = [Bench(spec, config, model, tuple(chosen)) for model in chosen]
    bare = [Bench(spec, config, model, tuple(chosen)) for model in brought_models() if model.bare]
    run_on = {"strategy": benches[:1], "adapted model": benches, "any model": [*benches, *bare]}
    pairs = [
        (check, bench, None if check.on == "strategy" else bench.model.name)
        for check in all_checks()
        for bench in run_on[check.on]
    ]
    return bind(pairs, expected_failures=expected_failures, checks=checks)


def check_strategy(
    spec: StrategySpec,
    *,
    config: StrategyConfig | None = None,
    models: Sequence[str | TinyModel] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    checks: Sequence[str] | None = None,
    report: Callable[[CheckResult], None] | None = None,
) -> list[CheckResult]:
    """Run the conformance kit on a strategy.

    Args:
        spec: The strategy.
        config: Its config; the default one if None.
        models: Names of tiny models, or your own; all of the kit's if None.
        expected_failures: Reasons by check, as `check_padding` or `check_padding[encoder]`. Such a check is still run, and
            reported where it passes.
        checks: Names of the checks to run; all if None.
        report: Called with each result as it comes.

    Returns:
        One result for each check and model; nothing is to be done where `all(result.ok for result in results)`.

    Raises:
        ConfigError: a check, model or expected failure that does not exist.
    """
    results = []
    for bound in bound_checks(spec, config=config, models=models, expected_failures=expected_failures, checks=checks):
        results.append(bound.result())
        if report is not None:
            report(results[-1])
    return results


def parametrize_with_checks(
    subject: StrategySpec | TaskSpec | ModuleType,
    *,
    config: StrategyConfig | None = None,
    models: Sequence[str | TinyModel] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    checks: Sequence[str] | None = None,
) -> pytest.MarkDecorator:
    """Parametrize a test with the checks of a strategy, a task or an observer; the test takes one argument and calls it.

    An expected failure is a strict xfail with its reason. `subject` is a spec, or the module of a plug-in that observes.
    The other arguments are those of `check_strategy`; `config` is for strategies alone.

    Example:
        @parametrize_with_checks(spec)
        def test_strategy(check):
            check()
    """
    import pytest

    parameters = []
    bounds: Iterator[BoundCheck]
    if isinstance(subject, StrategySpec):
        bounds = bound_checks(subject, config, models, expected_failures=expected_failures, checks=checks)
    elif isinstance(subject, TaskSpec):
        bounds = bound_task_checks(subject, models, expected_failures=expected_failures, checks=checks)
    else:
        bounds = bound_observer_checks(subject, models, expected_failures=expected_failures, checks=checks)
    for bound in bounds:
        marks = [] if bound.expected is None else [pytest.mark.xfail(reason=bound.expected, strict=True)]
        parameters.append(pytest.param(bound, id=bound.id, marks=marks))
    return pytest.mark.parametrize("check", parameters)

"""Running the checks: one after the other, each on fresh models, none stopped by another."""

from __future__ import annotations

import os
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest import SkipTest

import torch
from transformers.utils import logging as transformers_logging

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.plugins.spec import StrategyConfig, StrategySpec
from adapterhub_lite.testing.bench import Bench
from adapterhub_lite.testing.check import Check, CheckFailed, CheckResult, CheckSkipped, Status, check_id
from adapterhub_lite.testing.checks import all_checks
from adapterhub_lite.testing.models import brought_models, choose_models
from adapterhub_lite.testing.tiny_model import TinyModel

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True)
class BoundCheck:
    """A check with what it is run on; calling it runs it."""

    check: Check
    bench: Bench
    model: str | None
    expected: str | None
    """Why it is expected to fail; None where it has to pass."""

    @property
    def id(self) -> str:
        """`name[model]`."""
        return check_id(self.check.name, self.model)

    def __call__(self) -> None:
        """Run it.

        Raises:
            SkipTest: when it does not apply; says why.
            Exception: when it fails.
        """
        with _surroundings_restored():
            if self.check.on == "adapted model" and self.bench.refusal is not None:
                raise SkipTest(f"the strategy does not adapt this model: {self.bench.refusal}")
            why_not = self.check.when(self.bench)
            if why_not is not None:
                raise SkipTest(why_not)
            try:
                self.check.function(self.bench)
            except CheckSkipped as skipped:
                raise SkipTest(str(skipped)) from None

    def result(self) -> CheckResult:
        """Run it and tell what happened."""
        started = time.perf_counter()
        status: Status
        try:
            self()
        except SkipTest as skipped:
            status, message = "skipped", str(skipped)
        except (Exception, SystemExit) as error:
            what = str(error) if isinstance(error, CheckFailed) else f"{type(error).__name__}: {error}"
            message = " ".join(what.split())
            status = "failed"
            if self.expected is not None:
                status, message = "expected_failure", f"{self.expected} ({message})"
        else:
            status, message = "passed", ""
            if self.expected is not None:
                status, message = "unexpected_pass", f"expected to fail: {self.expected}; take it off the list"
        return CheckResult(self.check.name, self.model, status, message, round(time.perf_counter() - started, 3))


def bound_checks(
    spec: StrategySpec,
    *,
    config: StrategyConfig | None = None,
    models: Sequence[str | TinyModel] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    checks: Sequence[str] | None = None,
) -> Iterator[BoundCheck]:
    """Generate the checks of a strategy, bound to it and to the models, in the order in which they should run.

    Raises:
        ConfigError: a check, model or expected failure that does not exist.
    """
    expected, chosen = dict(expected_failures or {}), choose_models(models)
    known = list(all_checks())
    for name in checks or ():
        if name not in {check.name for check in known}:
            raise ConfigError(f"there is no check '{name}'; there are: {', '.join(check.name for check in known)}")
    if not chosen:
        raise ConfigError("there is no model to check on")
    benches = [Bench(spec, config, model, tuple(chosen)) for model in chosen]
    bare = [Bench(spec, config, model, tuple(chosen)) for model in brought_models() if model.bare]
    run_on = {"strategy": benches[:1], "adapted model": benches, "any model": [*benches, *bare]}
    bound = []
    for check in known:
        for bench in run_on[check.on]:
            model = None if check.on == "strategy" else bench.model.name
            reason = expected.get(check_id(check.name, model), expected.get(check.name))
            bound.append(BoundCheck(check, bench, model, reason))
    ids = {name for test in bound for name in (test.id, test.check.name)}
    for name, reason in expected.items():
        if name not in ids:
            raise ConfigError(
                f"expected failure '{name}' is no check; write it as 'check_padding' or 'check_padding[encoder]'"
            )
        if not reason.strip():
            raise ConfigError(f"expected failure '{name}' has no reason; say why it fails")
    yield from (test for test in bound if checks is None or test.check.name in checks)


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


@contextmanager
def _surroundings_restored() -> Iterator[None]:
    """Put back what a check or a bad strategy may have moved for the whole process, and hold back warnings."""
    python, environment = random.getstate(), dict(os.environ)
    dtype, threads, gradients = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    verbosity = transformers_logging.get_verbosity()
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # What libraries say of one another is not what is checked here.
            warnings.simplefilter("ignore")
            transformers_logging.set_verbosity_error()
            torch.set_num_threads(1)  # more only get in each other's way on models this small
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        random.setstate(python)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)

"""Checks with what they are run on: chosen, run each by itself, and told of as results."""

from __future__ import annotations

import os
import random
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol
from unittest import SkipTest

import torch
from transformers.utils import logging as transformers_logging

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.plugins.strategy_call import StrategyFault
from adapterhub_lite.plugins.surroundings import surroundings_kept
from adapterhub_lite.testing.check import Check, CheckFailed, CheckResult, CheckSkipped, Status, check_id


class Workbench(Protocol):
    """What a check is run on."""

    @property
    def refusal(self) -> str | None:
        """Why nothing can be checked on it; None where it can."""


@dataclass(frozen=True)
class BoundCheck:
    """A check with what it is run on; calling it runs it."""

    check: Check
    bench: Workbench
    model: str | None
    expected: str | None
    """Why it is expected to fail; None where it has to pass."""
    told_by: Mapping[str, Check] = field(default_factory=dict)
    """Of the checks that are run as well, those that tell of what the engine stops, by the method it stops."""

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
            try:
                why_not = self.check.when(self.bench)
                if why_not is not None:
                    raise SkipTest(why_not)
                self.check.function(self.bench)
            except CheckSkipped as skipped:
                raise SkipTest(str(skipped)) from None
            except StrategyFault as fault:
                if self._is_told_elsewhere(fault.method):
                    raise SkipTest(f"the engine stops it: see {self.told_by[fault.method].name}") from None
                raise

    def _is_told_elsewhere(self, method: str) -> bool:
        """Whether another check fails, and tells more, on what the engine stopped in a method."""
        other = self.told_by.get(method)
        if other is None or other == self.check:
            return False
        try:
            other.function(self.bench)
        except Exception as error:
            return isinstance(error, (StrategyFault, CheckFailed))
        return False

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


def bind(
    pairs: Sequence[tuple[Check, Workbench, str | None]],
    *,
    expected_failures: Mapping[str, str] | None = None,
    checks: Sequence[str] | None = None,
) -> Iterator[BoundCheck]:
    """Bind checks to what they are run on, given with the name of the model, and choose those that are to run.

    Raises:
        ConfigError: a check or expected failure that does not exist.
    """
    expected, known = dict(expected_failures or {}), list(dict.fromkeys(check.name for check, _, _ in pairs))
    for name in checks or ():
        if name not in known:
            raise ConfigError(f"there is no check '{name}'; there are: {', '.join(known)}")
    chosen = [(check, bench, model) for check, bench, model in pairs if checks is None or check.name in checks]
    told_by = {method: check for check, _, _ in chosen for method in check.tells_of}
    ids = {name for check, _, model in pairs for name in (check_id(check.name, model), check.name)}
    for name, reason in expected.items():
        if name not in ids:
            raise ConfigError(
                f"expected failure '{name}' is no check; write it as 'check_padding' or 'check_padding[encoder]'"
            )
        if not reason.strip():
            raise ConfigError(f"expected failure '{name}' has no reason; say why it fails")
    for check, bench, model in chosen:
        why = expected.get(check_id(check.name, model), expected.get(check.name))
        yield BoundCheck(check, bench, model, why, told_by)


@contextmanager
def _surroundings_restored() -> Iterator[None]:
    """Put back what a check or a bad strategy may have moved for the whole process, and hold back warnings."""
    python, environment = random.getstate(), dict(os.environ)
    verbosity = transformers_logging.get_verbosity()
    try:
        random_kept = torch.random.fork_rng(devices=[])
        with surroundings_kept(lambda what: None), random_kept, warnings.catch_warnings():
            # What libraries say of one another is not what is checked here.
            warnings.simplefilter("ignore")
            transformers_logging.set_verbosity_error()
            torch.set_num_threads(1)  # more only get in each other's way on models this small
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        random.setstate(python)
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)

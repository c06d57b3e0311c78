"""The conformance kit: what every strategy is held to, ours and a stranger's alike.

In a test:                                      From code:

    from adapterhub_lite.testing import (           from adapterhub_lite.testing import check_strategy
        parametrize_with_checks)
                                                    for result in check_strategy(spec):
    @parametrize_with_checks(spec)                      print(result.id, result.status, result.message)
    def test_strategy(check):
        check()

From the command line: `adapterhub-lite plugins check NAME`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adapterhub_lite.testing.check import KIT_VERSION, CheckResult

if TYPE_CHECKING:
    from adapterhub_lite.testing.check import Check as Check
    from adapterhub_lite.testing.check import CheckFailed as CheckFailed
    from adapterhub_lite.testing.checks import all_checks as all_checks
    from adapterhub_lite.testing.models import TINY_MODELS as TINY_MODELS
    from adapterhub_lite.testing.models import tiny_base as tiny_base
    from adapterhub_lite.testing.run import check_strategy as check_strategy
    from adapterhub_lite.testing.run import parametrize_with_checks as parametrize_with_checks
    from adapterhub_lite.testing.tiny_model import TinyModel as TinyModel
    from adapterhub_lite.testing.tokenizer import tiny_tokenizer as tiny_tokenizer

# Loaded on first use: all of these need torch.
_HOME = {
    "TINY_MODELS": "models",
    "Check": "check",
    "CheckFailed": "check",
    "TinyModel": "tiny_model",
    "all_checks": "checks",
    "check_strategy": "run",
    "parametrize_with_checks": "run",
    "tiny_base": "models",
    "tiny_tokenizer": "tokenizer",
}
__all__ = ["KIT_VERSION", "CheckResult", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'adapterhub_lite.testing' has no attribute {name!r}")
    return getattr(import_module(f"adapterhub_lite.testing.{_HOME[name]}"), name)

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

from typing import TYPE_CHECKING

from adapterhub_lite.first_use import on_first_use
from adapterhub_lite.testing.check import KIT_VERSION as KIT_VERSION, CheckResult as CheckResult

if TYPE_CHECKING:
    # Each of these is imported when it is first asked for: they need torch.
    from adapterhub_lite.testing.check import Check as Check, CheckFailed as CheckFailed
    from adapterhub_lite.testing.checks import all_checks as all_checks
    from adapterhub_lite.testing.models import TINY_MODELS as TINY_MODELS, tiny_base as tiny_base
    from adapterhub_lite.testing.run import (
        check_strategy as check_strategy,
        parametrize_with_checks as parametrize_with_checks,
    )
    from adapterhub_lite.testing.tiny_model import TinyModel as TinyModel
    from adapterhub_lite.testing.tokenizer import tiny_tokenizer as tiny_tokenizer
else:
    __getattr__ = on_first_use(__name__)

"""The built-in strategies are held to the kit as a stranger's are."""

from __future__ import annotations

from collections.abc import Callable

import adapterhub_full
import adapterhub_linear_probe
import adapterhub_lora
import adapterhub_prefix
from adapterhub_lite.testing import parametrize_with_checks

Bound = Callable[[], None]


@parametrize_with_checks(adapterhub_lora.adapterhub_strategies()[0])
def test_lora(check: Bound) -> None:
    check()


@parametrize_with_checks(adapterhub_prefix.adapterhub_strategies()[0])
def test_prefix(check: Bound) -> None:
    check()


@parametrize_with_checks(adapterhub_linear_probe.adapterhub_strategies()[0])
def test_linear_probe(check: Bound) -> None:
    check()


@parametrize_with_checks(adapterhub_full.adapterhub_strategies()[0])
def test_full(check: Bound) -> None:
    check()

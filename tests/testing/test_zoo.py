"""The kit, tested: for each check a broken strategy that this check sees and all the others let pass."""

from __future__ import annotations

import pytest
import torch
from zoo import GOOD, GOOD_WITH_PROTOCOLS, GOOD_WITH_TOKENS, MUTANTS, Mutant, heavy

import adapterhub_lite.adapter.restore
from adapterhub_lite.testing import all_checks, check_strategy

ZOO = [heavy(), *MUTANTS]


@pytest.fixture
def _mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put back what the patching mutants replace."""
    monkeypatch.setattr(torch.nn.functional, "silu", torch.nn.functional.silu)
    monkeypatch.setattr(adapterhub_lite.adapter.restore, "check_tensors", adapterhub_lite.adapter.restore.check_tensors)


def test_the_whole_one_passes() -> None:
    """What all mutants are made of passes every check on every model, so that what is seen is the mutation."""
    results = check_strategy(GOOD)
    assert [result for result in results if not result.ok] == []
    for spec in (GOOD_WITH_PROTOCOLS, GOOD_WITH_TOKENS):
        results += check_strategy(spec, models=["encoder"])
    assert [result for result in results if not result.ok] == []
    passed = {result.name for result in results if result.status == "passed"}
    assert {check.name for check in all_checks()} - passed == set(), "a check that never applies says nothing"


def test_every_check_has_its_mutant() -> None:
    table = [name for mutant in ZOO for name in mutant.caught_by]
    assert {check.name for check in all_checks()} == set(table)
    for mutant in ZOO:
        assert mutant.spec.name in {name.removeprefix("check_") for name in mutant.caught_by}
        assert (len(mutant.caught_by) > 1) == bool(mutant.inseparable), "more than one check needs a reason"


@pytest.mark.usefixtures("_mended")
@pytest.mark.parametrize("mutant", ZOO, ids=lambda mutant: f"{mutant.spec.name}: {mutant.what}")
def test_the_mutant_is_seen_by_its_check_alone(mutant: Mutant) -> None:
    results = check_strategy(mutant.spec, models=mutant.models)
    failed = {result.name for result in results if result.status == "failed"}
    assert failed == mutant.caught_by, [(r.id, r.message) for r in results if r.status == "failed"]

"""What the kit reports, and how it is used from code and from pytest."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from zoo import GOOD, MUTANTS

from adapterhub_lite.api import Field, StrategyConfig
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.testing import KIT_VERSION, CheckResult, TinyModel, all_checks, check_strategy
from adapterhub_lite.testing.models import TINY_MODELS

BROKEN = next(mutant.spec for mutant in MUTANTS if mutant.spec.name == "padding")
HERE = Path(__file__).parent


def only(results: list[CheckResult]) -> CheckResult:
    (result,) = results
    return result


def run(spec: Any = BROKEN, check: str = "check_padding", model: str = "encoder", **options: Any) -> CheckResult:
    return only(check_strategy(spec, checks=[check], models=[model], **options))


def test_checks_are_plain_functions_with_a_name_and_a_demand() -> None:
    checks = list(all_checks())
    assert len({check.name for check in checks}) == len(checks)
    for check in checks:
        assert check.name.startswith("check_")
        assert check.demand.endswith("."), check.name
        assert check.condition.endswith("."), check.name


def test_passed_and_failed() -> None:
    result = run(GOOD)
    assert (result.status, result.message, result.ok, result.model) == ("passed", "", True, "encoder")
    assert result.seconds > 0
    result = run()
    assert (result.status, result.ok, result.id) == ("failed", False, "check_padding[encoder]")
    assert "use the attention mask" in result.message


@pytest.mark.parametrize("key", ["check_padding", "check_padding[encoder]"])
def test_an_expected_failure_is_run_and_keeps_its_reason(key: str) -> None:
    result = run(expected_failures={key: "known, issue 12"})
    assert (result.status, result.ok) == ("expected_failure", True)
    assert "known, issue 12" in result.message
    assert "attention mask" in result.message


def test_an_expected_failure_that_passes_is_reported() -> None:
    result = run(GOOD, expected_failures={"check_padding": "was broken once"})
    assert (result.status, result.ok) == ("unexpected_pass", False)
    assert "was broken once" in result.message


def test_an_expected_failure_of_another_model_does_not_count() -> None:
    results = check_strategy(
        BROKEN,
        checks=["check_padding"],
        models=["encoder", "decoder"],
        expected_failures={"check_padding[encoder]": "x"},
    )
    assert [result.status for result in results] == ["expected_failure", "passed"]


def test_skipped_says_why() -> None:
    result = run(replace(GOOD, traits=replace(GOOD.traits, mergeable=False)), "check_merge")
    assert (result.status, result.ok, result.message) == ("skipped", True, "traits.mergeable is False")
    result = run(replace(GOOD, traits=replace(GOOD.traits, modalities=frozenset({"image"}))))
    assert result.status == "skipped"
    assert "works on image, not on text" in result.message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checks": ["check_pading"]}, "no check 'check_pading'"),
        ({"models": ["bert"]}, "no tiny model 'bert'"),
        ({"models": []}, "no model"),
        ({"expected_failures": {"check_pading": "x"}}, "'check_pading' is no check"),
        ({"expected_failures": {"check_padding": " "}}, "has no reason"),
    ],
)
def test_what_does_not_exist_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_strategy(GOOD, **options)


def test_a_strategy_that_cannot_be_loaded_fails_its_checks() -> None:
    def load() -> Any:
        raise ImportError("no module named 'left_out'")

    result = run(replace(GOOD, load=load), "check_detach_exact")
    assert (result.status, result.message) == ("failed", "ImportError: no module named 'left_out'")


def test_a_config_without_default() -> None:
    class Needy(StrategyConfig):
        rank: int = Field(description="Needed.")
        factor: float = Field(default=1.0, description="Read by the strategy.")

    spec = replace(GOOD, config=Needy)
    assert (
        run(spec, "check_config_described").message
        == "option 'rank' has no default; a strategy must work without settings"
    )
    assert run(spec, "check_config_round_trip").status == "skipped"
    assert run(spec, "check_detach_exact").status == "failed"
    assert run(spec, "check_detach_exact", config=Needy(rank=1)).status == "passed"


def test_a_model_of_ones_own() -> None:
    encoder = next(model for model in TINY_MODELS if model.name == "encoder")
    mine = TinyModel("mine", "wider", encoder.build, encoder.problem)
    result = only(check_strategy(GOOD, checks=["check_detach_exact"], models=[mine]))
    assert (result.status, result.model) == ("passed", "mine")


def test_the_callers_random_state_and_settings_are_left_alone() -> None:
    torch.manual_seed(5)
    state, threads, filters = torch.get_rng_state(), torch.get_num_threads(), list(warnings.filters)
    run(GOOD, "check_loss_falls")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert list(warnings.filters) == filters


def test_results_are_reported_as_they_come() -> None:
    seen: list[str] = []
    check_strategy(
        GOOD, checks=["check_names"], models=["encoder", "vision"], report=lambda result: seen.append(result.id)
    )
    assert seen == ["check_names[encoder]", "check_names[vision]"]


def test_one_line_of_pytest(tmp_path: Path) -> None:
    """Passes, skips and strict expected failures, each under the name of its check."""
    (tmp_path / "test_mine.py").write_text(
        f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from zoo import GOOD, MUTANTS
from adapterhub_lite.testing import parametrize_with_checks
BROKEN = next(mutant.spec for mutant in MUTANTS if mutant.spec.name == "padding")
CHECKS = ["check_names", "check_padding", "check_merge"]

@parametrize_with_checks(BROKEN, models=["encoder"], checks=CHECKS)
def test_found(check):
    check()

@parametrize_with_checks(BROKEN, models=["encoder"], checks=CHECKS, expected_failures={{"check_padding": "known"}})
def test_known(check):
    check()

@parametrize_with_checks(GOOD, models=["encoder"], checks=CHECKS, expected_failures={{"check_padding": "known"}})
def test_mended(check):
    check()
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "-W", "error", "test_mine.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "2 failed, 4 passed, 2 skipped, 1 xfailed" in done.stdout, done.stdout + done.stderr
    assert "FAILED test_mine.py::test_found[check_padding[encoder]]" in done.stdout
    assert "FAILED test_mine.py::test_mended[check_padding[encoder]]" in done.stdout  # strict
    assert "traits.mergeable is False" in done.stdout


def test_the_package_is_light() -> None:
    code = (
        "import sys, adapterhub_lite.testing, adapterhub_lite.testing.remote, adapterhub_lite.cli.check;"
        "print([m for m in ('torch', 'transformers', 'pytest', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert KIT_VERSION.count(".") == 1


def test_dropout_of_a_strategy_is_off_outside_training() -> None:
    """Modules are born in training mode; attached and loaded adapters are not."""
    import adapterhub_lora

    spec = adapterhub_lora.adapterhub_strategies()[0]
    config = adapterhub_lora.LoraConfig(rank=2, dropout=0.5)
    names = ["check_disabled_exact", "check_save_load", "check_cached_generation"]
    results = check_strategy(spec, config=config, models=["decoder"], checks=names)
    assert [result.status for result in results] == ["passed"] * 3, results


def test_a_config_that_is_refused_on_a_quantized_base_is_no_broken_promise() -> None:
    import adapterhub_lora
    from adapterhub_lora.strategy import Lora

    class Picky(Lora):
        """LoRA whose traits say nothing of the options it refuses."""

        def attach(self, view: Any, config: Any) -> Any:
            if config.rank == 2 and view.is_quantized(view.map.linears[0]):
                raise NotSupportedError("rank=2 needs an unquantized base")
            return super().attach(view, config)

    spec = adapterhub_lora.adapterhub_strategies()[0]
    picky = replace(spec, name="picky", load=Picky, traits_for=None)
    result = run(picky, "check_quantized_base", config=adapterhub_lora.LoraConfig(rank=2))
    assert (result.status, result.ok) == ("skipped", True)
    assert "rank=2 needs an unquantized base" in result.message
    result = run(spec, "check_quantized_base", config=adapterhub_lora.LoraConfig(rank=2, init="pissa"))
    assert (result.status, result.ok) == ("passed", True), "lora's traits say it"

"""The zoo: strategies that are each broken in one way. No torch here, as in any plug-in's module.

`GOOD` is whole; every mutant is `GOOD` with one thing changed, made so that one check of the kit sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ConfigDict, field_serializer

from adapterhub_lite.api import Field, Strategy, StrategyConfig, StrategySpec, Traits


class ScaleConfig(StrategyConfig):
    factor: float = Field(default=1.0, gt=0, description="What the learnt scales are multiplied by.")
    note: str = Field(default="Zoo", description="Changes nothing.")


class Undescribed(ScaleConfig):
    bare: int = 1


class Forgetful(ScaleConfig):
    @field_serializer("note")
    def lower(self, value: str) -> str:
        return value.lower()


class Lax(ScaleConfig):
    model_config = ConfigDict(extra="ignore")


class WithChoice(ScaleConfig):
    only_last: bool = Field(False, description="Scale the last matrix alone, or so it says.")


@dataclass(frozen=True)
class Mutant:
    """A broken strategy, and the checks that have to see it: one, or more where that cannot be helped."""

    what: str
    spec: StrategySpec
    caught_by: frozenset[str]
    inseparable: str = ""
    """Why more than one check sees it."""
    models: tuple[str, ...] = ("encoder", "decoder")
    """What it is checked on: between a model that reads text both ways and one that generates, every check applies."""


WHOLE = Traits(mergeable=True, identity_at_init=True)
UNMERGEABLE = Traits(identity_at_init=True)
PLAIN = Traits()


def _spec(name: str, traits: Traits, config: type[StrategyConfig], load: Callable[[], Strategy]) -> StrategySpec:
    return StrategySpec(name=name, summary="From the zoo.", config=config, load=load, traits=traits)


def _loader(kind: str) -> Callable[[], Any]:
    def load() -> Any:
        from zoo import protocols, strategies

        return getattr(strategies, kind, None)() if hasattr(strategies, kind) else getattr(protocols, kind)()

    return load


def _mutant(
    check: str, what: str, kind: str = "Scale", *, traits: Traits = WHOLE, config: type[StrategyConfig] = ScaleConfig
) -> Mutant:
    return Mutant(what, _spec(check.removeprefix("check_"), traits, config, _loader(kind)), frozenset({check}))


def _breaks(check: str, what: str, kind: str, *, traits: Traits = WHOLE) -> Mutant:
    """One that breaks a protocol, or what the engine guards: whatever the model, so one is enough."""
    spec = _spec(check.removeprefix("check_"), traits, ScaleConfig, _loader(kind))
    return Mutant(what, spec, frozenset({check}), models=("encoder",))


GOOD = _spec("good", WHOLE, ScaleConfig, _loader("Scale"))
GOOD_WITH_PROTOCOLS = _spec("good_with_protocols", UNMERGEABLE, WithChoice, _loader("Whole"))
GOOD_WITH_TOKENS = _spec("good_with_tokens", UNMERGEABLE, ScaleConfig, _loader("WithTokens"))


def heavy() -> Mutant:
    """The one whose module is heavy; not imported before it is asked for."""
    from zoo import heavy_plugin

    spec = _spec("light_import", WHOLE, heavy_plugin.HeavyConfig, _loader("Scale"))
    return Mutant("its module imports torch", spec, frozenset({"check_light_import"}))


MUTANTS: tuple[Mutant, ...] = (
    _mutant("check_no_global_patches", "wraps torch.nn.functional.silu for everybody", "Patching"),
    _mutant("check_adapts_a_model", "refuses every model", "Refusing"),
    _mutant(
        "check_refuses_cleanly", "takes the first matrix of a model without looking whether there is one", "Trusting"
    ),
    _mutant("check_config_described", "an option without description", config=Undescribed),
    _mutant("check_config_round_trip", "an option is written otherwise than it was", config=Forgetful),
    _mutant("check_config_strict", "takes options it does not have", config=Lax),
    _mutant("check_names", "names with a blank", "Blank"),
    replace(
        _mutant("check_returned_tensors_train", "returns a parameter that nothing uses", "Dead"),
        caught_by=frozenset(
            f"check_{name}"
            for name in [
                "returned_tensors_train",
                "base_unchanged",
                "loss_falls",
                "deterministic",
                "save_load",
                "resume",
            ]
        ),
        inseparable="a run ends with an error where no gradient meets what trains, so that every check that trains fails",
    ),
    _mutant("check_nothing_else_trains", "keeps a trainable parameter to itself", "Secretive"),
    _mutant("check_identity_at_init", "does not start at zero", "Loud"),
    _mutant("check_options", "with another option than the default it fails", "Halfway", config=WithChoice),
    _breaks("check_attach", "leaves a hook behind", "Littering"),
    _breaks("check_attach", "ends the program", "Ending"),
    _breaks("check_attach", "returns a weight of the base as its own", "Aliasing"),
    _breaks("check_attach", "returns a parameter by two names", "Twice"),
    _breaks("check_attach", "starts with values that are not finite", "NotFinite"),
    _breaks("check_attach", "adds a token to the base's own tokenizer", "Retokenizing"),
    _breaks("check_attach", "writes into the base's config", "Reconfiguring"),
    _breaks("check_attach", "puts another embedding into the base", "Reembedding"),
    _breaks("check_no_global_patches", "leaves another default dtype", "Careless"),
    _breaks("check_base_unchanged", "writes into the base through .data", "Writing"),
    _breaks("check_base_unchanged", "hooks into the base while it is trained", "HookingLater"),
    _breaks("check_prepare", "prepares something else than parameters", "PreparedList"),
    _breaks("check_prepare", "prepares a config that JSON does not hold", "PreparedUnwritten"),
    _breaks("check_groups", "gives factors to a parameter that is not there", "GroupingOthers"),
    _breaks("check_penalty", "punishes what a batch gave", "Penalising"),
    _breaks("check_penalty", "punishes without a gradient", "PenaltyWithoutGradient"),
    _breaks("check_penalty", "ends the program in a step", "PenaltyEnding"),
    _breaks("check_penalty", "is not finite once", "PenaltyNotFinite"),
    _breaks("check_after_step", "changes a shape between steps", "Shrinking"),
    _breaks("check_after_step", "leaves values that are not finite", "Breaking"),
    _breaks("check_resume", "counts steps and does not keep the count", "Stateless"),
    _breaks("check_state", "gives no StrategyState", "StateOfAnotherKind"),
    _breaks("check_state", "keeps more with every step", "Growing"),
    _breaks("check_state", "does not take its state back", "ForgettingState"),
    _breaks("check_output_loss", "gives a loss without a gradient", "LossWithoutGradient"),
    _breaks("check_output_loss", "gives a loss of another shape", "LossOfAnotherShape"),
    _breaks("check_added_tokens", "adds a token without a row", "TokensWithoutRows"),
    _breaks("check_batch_context", "takes a batch for a row", "Mixing"),
    _mutant("check_detach_exact", "tidies up on its way out, wrongly", "WrongTidy", traits=UNMERGEABLE),
    _mutant(
        "check_disabled_exact",
        "sets a module's attribute past the view until it is detached",
        "PastTheView",
        traits=PLAIN,
    ),
    _mutant("check_two_adapters", "keeps the parameters of the last attachment only", "Sharing", traits=UNMERGEABLE),
    _mutant("check_loss_falls", "turns gradients round", "Uphill"),
    _mutant("check_deterministic", "draws from a generator of its own", "Entropic", traits=Traits(mergeable=True)),
    _mutant("check_activation_checkpointing", "counts how often it is run while training", "Counting"),
    _mutant("check_quantized_base", "takes the rows of a stored weight for its outputs", "Rows"),
    _mutant("check_bfloat16_base", "trains in the dtype of the base", "Imprecise"),
    _mutant("check_save_load", "a random projection is not saved", "Unsaved", traits=UNMERGEABLE),
    Mutant(
        "lets files with other tensors pass",
        _spec("strict_load", WHOLE, ScaleConfig, _loader("Lenient")),
        frozenset({"check_strict_load", "check_no_global_patches"}),
        "tensors are compared by the core, before a strategy sees them; to let others pass a strategy has to replace "
        "code of the core, which is a global patch",
    ),
    _mutant("check_cached_generation", "does nothing for a single token", "PrefillOnly"),
    _mutant("check_padding", "averages over tokens, padding included", "Averaging", traits=UNMERGEABLE),
    _mutant("check_merge", "merges half of it", "HalfMerged"),
)

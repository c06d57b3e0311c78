"""From the fields of a PEFT configuration to the options of a strategy."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ConfigDict, create_model

from adapterhub_lite.api import Field, StrategyConfig
from adapterhub_peft.methods import known
from adapterhub_peft.source import Method, Option

CORE = "adapterhub_lite writes it into the saved file"
PATHS = "`targets` takes full names, which says as much"
FILES = "it is what `fixed` says: what is not trained is saved, or made anew from the base and `seed`"
ELSEWHERE = "it changes the model outside the layers that the method adapts"
DATA = "it goes with a start from data, which is strategy lora's"

LEFT_OUT: dict[str, str] = {
    "peft_type": CORE,
    "task_type": CORE,
    "auto_mapping": CORE,
    "peft_version": CORE,
    "base_model_name_or_path": CORE,
    "revision": CORE,
    "inference_mode": CORE,
    "target_modules": "`targets` instead, which means the same for every strategy",
    "exclude_modules": PATHS,
    "layers_to_transform": PATHS,
    "layers_pattern": PATHS,
    "fan_in_fan_out": "read off the layers themselves",
    "modules_to_save": ELSEWHERE,
    "bias": "it would train biases of the base itself, which stays as it is; strategy full trains those",
    "layer_replication": ELSEWHERE,
    "target_parameters": ELSEWHERE,
    "trainable_token_indices": "strategy peft:trainable_tokens does this",
    "ensure_weight_tying": "it belongs to modules_to_save",
    "megatron_config": "for models of Megatron only",
    "megatron_core": "for models of Megatron only",
    "arrow_config": "it mixes LoRA adapters that are already trained",
    "eva_config": DATA,
    "corda_config": DATA,
    "lora_ga_config": DATA,
    "loftq_config": "strategy lora has this start, with the weights from before quantization",
    "runtime_config": "it moves weights of the base between devices",
    "alora_invocation_tokens": "it needs PEFT's own forward pass around the model",
    "use_qalora": "for GPTQ bases only",
    "qalora_group_size": "for GPTQ bases only",
    "save_projection": FILES,
    "save_indices": FILES,
    "save_precomputed_indices": FILES,
    "save_only_topk_weights": "a file without the rest cannot be trained or merged",
    "progressbar": "adapterhub_lite shows the progress",
    "runtime_offload_base_weight": "it moves weights of the base between devices",
}
"""Fields that are no options of any method, with the reason."""

FIELDS = "Its fields, and what they are if not set:"
NOT_WRITABLE = "its type cannot be written in YAML"

HELP: dict[str, str] = {
    "feedforward_modules": "Names, separated by commas as in `targets`, of those whose input is scaled instead of the "
    "output; none if not set.",
    "init_lora_weights": "How to start; true leaves the outputs as they were. Starts that rewrite the base (pissa, olora, "
    "loftq) or need data (eva, corda, lora_ga) are those of strategy lora.",
}
"""Help for options that mean something else here than in PEFT."""

OWN: tuple[Option, ...] = (
    Option(
        "targets",
        str,
        "all-linear",
        "Which weight matrices: all-linear, attention, or names such as q_proj,v_proj separated by commas.",
    ),
    Option(
        "seed",
        int | None,
        None,
        "Seed of what PEFT draws at random when it is attached; drawn from the seed of the run if not set. Saved with the "
        "adapter, which makes the parts that do not train anew from it.",
    ),
    Option(
        "remade",
        float | None,
        None,
        "Not to be set: in a saved adapter, a checksum of the parts that do not train, compared when it is loaded.",
    ),
    Option(
        "fixed",
        bool,
        False,
        "Save the parts that do not train, too, as far as PEFT has a form for them, in place of making them anew from the "
        "seed; so it is with adapters that PEFT saved with them.",
    ),
)


def left_out(method: Method) -> dict[str, str]:
    """The fields of a method that are no options, with the reason."""
    reasons = {**LEFT_OUT, **known(method.name).left_out}
    fields = {}
    for option in method.options:
        if option.name in reasons:
            fields[option.name] = reasons[option.name]
        elif option.type is None and not option.parts:
            fields[option.name] = NOT_WRITABLE
    return fields


def make_config(method: Method) -> type[StrategyConfig]:
    """Build the config class of a method."""
    facts = known(method.name)
    out = left_out(method)
    fields: dict[str, Any] = {}
    for option in OWN:
        default = facts.targets if option.name == "targets" else option.default
        fields[option.name] = (option.type, Field(default, description=option.help))
    for option in method.options:
        if option.name in out or option.name in fields:
            continue
        text = facts.help.get(option.name) or HELP.get(option.name)
        kind = str | None if option.name == "feedforward_modules" else facts.types.get(option.name)
        fields[option.name] = _field(option, f"See {method.config} of PEFT.", text, kind)
    # The schema is built when the class is first used: a command that lists strategies makes forty of them.
    return create_model(method.config, __base__=_Deferred, __module__=__name__, **fields)


def _field(option: Option, otherwise: str, text: str | None = None, kind: Any = None) -> tuple[Any, Any]:
    """Type and field of an option; one that is a configuration itself has the fields of that.

    Args:
        option: Of PEFT.
        otherwise: Help where PEFT has none.
        text: Help that is better than PEFT's.
        kind: The type, where not every value that PEFT takes is offered.
    """
    if option.parts:
        parts: dict[str, Any] = {part.name: _field(part, otherwise) for part in option.parts if part.type is not None}
        kind = create_model(option.name, __base__=_Deferred, __module__=__name__, **parts) | None
    kind = option.type if kind is None else kind
    description = text or _plain(option.help) or otherwise
    if option.parts:
        description += f" {FIELDS} {', '.join(f'{part.name}={part.default}' for part in option.parts)}."
    if isinstance(option.default, (dict, list)):
        return kind, Field(default_factory=type(option.default), description=description)
    return kind, Field(option.default, description=description)


class _Deferred(StrategyConfig):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # some options are mappings, which have no hash of their own


def _plain(text: str) -> str:
    """Help without the HTML links that some of PEFT's texts carry."""
    return re.sub(r"<[^>]+>", "", text).strip()

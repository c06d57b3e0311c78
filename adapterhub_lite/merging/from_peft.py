"""`import_peft`: an adapter that PEFT trained, as one of ours."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.errors import ConfigError, NotSupportedError, StrategyNotFoundError
from adapterhub_lite.merging.peft_files import PREFIX, PeftFiles, local_names, read_peft
from adapterhub_lite.merging.peft_prefix import prefix_tensors
from adapterhub_lite.merging.remake import fill
from adapterhub_lite.merging.report import probe_items
from adapterhub_lite.storage import Manifest
from adapterhub_lite.tasks.task import Preprocessing

if TYPE_CHECKING:
    from adapterhub_lite.base.loading import Base
    from adapterhub_lite.engine import Engine

# What says nothing about what a trained LoRA adapter computes, or is found in its tensors.
LORA_KNOWN = frozenset(
    {
        "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "use_rslora", "use_dora", "rank_pattern",
        "alpha_pattern", "layers_to_transform", "layers_pattern", "init_lora_weights", "fan_in_fan_out",
        "modules_to_save", "loftq_config", "eva_config", "corda_config", "runtime_config", "ensure_weight_tying",
        "megatron_config", "megatron_core",
    }
)  # fmt: skip
INCIDENTAL = frozenset(
    {
        "peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping",
        "peft_version",
    }
)  # fmt: skip
PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Ways to start that leave the base as it was; with the others the adapter sits on a base that was changed."""


@dataclass(frozen=True)
class Imported:
    """What an import made."""

    path: Path
    strategy: str
    task: str
    tensors: int


def import_peft(
    engine: Engine,
    folder: Path,
    out: Path,
    *,
    base: Base | str | None = None,
    task: str | None = None,
    labels: list[str] | None = None,
    quantization: str = "none",
    dtype: str = "auto",
    device: str = "auto",
) -> Imported:
    """Import an adapter that PEFT saved.

    LoRA with all that its tensors say (rsLoRA, DoRA, ranks and scales by layer), prefix tuning of language models, and
    every other method through strategy `peft:<method>`. A setting that cannot be represented is refused by name.

    Args:
        engine: Loads the base and the strategy.
        folder: What `PeftModel.save_pretrained` wrote.
        out: Where to save.
        base: A base or a reference; by default the one that PEFT recorded.
        task: causal-lm or text-classification; by default what PEFT recorded.
        labels: Names of a classifier's labels, in the order of its outputs.
        quantization: How to load the base.
        dtype: What to compute in.
        device: Where.

    Raises:
        AdapterNotFoundError, AdapterCorruptError: no such adapter.
        NotSupportedError: something the adapter has that cannot be represented here.
        ConfigError: a task or labels that are missing.
    """
    files = read_peft(folder)
    if base is None or isinstance(base, str):
        reference = base or files.config.get("base_model_name_or_path")
        if not reference:
            raise ConfigError(f"{folder} does not say what it was trained on; give --base")
        base = engine.load_base(reference, quantization=quantization, dtype=dtype, device=device)
    base.activate(None)
    head, body = _split_head(files)
    name = _task_name(files, task, base)
    if bool(head) != (name != "causal-lm"):
        raise NotSupportedError(
            f"{folder}: {'a head was saved with it, and causal-lm has none' if head else f'{name} needs a head'}; "
            + ("use --task text-classification" if head else "PEFT saved none; use --task causal-lm, or train one here")
        )
    if head and len(labels or ()) != len(head["head.weight"]):
        raise ConfigError(f"{folder} has {len(head['head.weight'])} outputs; name them with --labels a,b,...")
    if files.method == "lora":
        strategy, (settings, tensors) = "lora", _lora(files, body, base)
    elif files.method == "prefix_tuning":
        strategy, (settings, tensors) = "prefix", prefix_tensors(files, base)
    else:
        strategy, (settings, tensors) = f"peft:{files.method}", _other(engine, files, body, base)
    form, pooling = ("text", None) if name == "causal-lm" else (None, "last")
    length = min(getattr(base.model.config.get_text_config(), "max_position_embeddings", 512), 512)
    made = engine.catalog.load(engine.catalog.resolve(name))(
        labels or (), Preprocessing(max_length=length, pooling=pooling, form=form)
    )
    attachment = fill(engine, base, made, strategy, settings, {**tensors, **head})
    facts = {"imported_from": str(folder), "peft_version": str(files.config.get("peft_version"))}
    adapter = Adapter(
        attachment, engine.plugins, engine.progress, training=facts, probe_inputs=probe_items(made, [])
    )  # fmt: skip
    try:
        manifest: Manifest = adapter.save(out)
    finally:
        adapter.detach()
    return Imported(out, manifest.strategy.name, name, len(tensors) + len(head))


def _task_name(files: PeftFiles, wanted: str | None, base: Base) -> str:
    recorded = files.config.get("task_type")
    name = wanted or {"CAUSAL_LM": "causal-lm", "SEQ_CLS": "text-classification"}.get(str(recorded))
    if name is None and recorded in (None, "FEATURE_EXTRACTION") and base.map.output is not None:
        return "causal-lm"
    if name not in ("causal-lm", "text-classification"):
        raise ConfigError(
            f"{files.folder}: task type {recorded} has no task here; give --task causal-lm or --task text-classification"
        )
    return name


def _split_head(files: PeftFiles) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The classifier of a decoder, `score`, which sees the last token as our head does; others are refused."""
    head, body = {}, {}
    for name, tensor in files.tensors.items():
        if name.removeprefix(PREFIX) == "score.weight":
            head = {"head.weight": tensor.float(), "head.bias": torch.zeros(len(tensor))}
        else:
            body[name] = tensor
    for saved in files.config.get("modules_to_save") or ():
        if saved != "score" and any(f".{saved}." in f".{name}" for name in body):
            raise NotSupportedError(
                f"{files.folder}: modules_to_save has '{saved}', a trained copy of a module of the base, which no adapter "
                "here holds" + ("; its input is not the pooled features of our head" if saved == "classifier" else "")
            )
    return head, body


def _refuse_settings(files: PeftFiles, known: frozenset[str], defaults: Mapping[str, Any]) -> None:
    for key, value in files.config.items():
        if key not in known | INCIDENTAL and value != defaults.get(key) and value not in (None, False, {}, []):
            raise NotSupportedError(f"{files.folder}: {key}={value!r} cannot be represented here")


def _lora(files: PeftFiles, tensors: Mapping[str, Tensor], base: Base) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and tensors of strategy lora; ranks and scales that differ by layer are brought to one."""
    from peft import LoraConfig

    config = files.config
    _refuse_settings(files, LORA_KNOWN, {**LoraConfig().to_dict(), "bias": "none"})
    start = config.get("init_lora_weights")
    if start not in PLAIN_STARTS:
        raise NotSupportedError(
            f"{files.folder}: init_lora_weights={start!r} changed the base before training; convert it with PEFT's "
            "`save_pretrained(path_initial_model_for_weight_conversion=...)` first"
        )
    inner = local_names([name.removeprefix(PREFIX) for name in tensors], base.model, base.model.base_model_prefix)
    named = {inner[name.removeprefix(PREFIX)]: tensor.float() for name, tensor in tensors.items()}
    kinds: dict[str, dict[str, str]] = {}
    for name, tensor in named.items():
        path, dot, kind = name.rpartition(".lora_")
        if not dot and _is_of_base(name, tensor, base):
            continue  # PEFT saves a whole embedding beside its update, though it did not train
        if not dot or kind not in ("A.weight", "B.weight", "magnitude_vector", "embedding_A", "embedding_B"):
            raise NotSupportedError(f"{files.folder}: tensor '{name}' is no part of a LoRA update")
        kinds.setdefault(path, {})[kind.removesuffix(".weight").removeprefix("embedding_")] = name
    ranks = {path: len(named[each["A"]]) for path, each in kinds.items()}
    rank, alpha, rooted = max(ranks.values()), float(config["lora_alpha"]), bool(config.get("use_rslora"))

    def scale(alpha: float, rank: int) -> float:
        return alpha / (math.sqrt(rank) if rooted else rank)

    for path, each in kinds.items():
        own = scale(_by_pattern(config.get("alpha_pattern") or {}, path, alpha), ranks[path])
        common = scale(alpha, rank)
        a, b = named[each["A"]], named[each["B"]]
        if ranks[path] < rank:  # rows and columns of zeros change nothing
            a = torch.cat([a, a.new_zeros(rank - len(a), *a.shape[1:])])
            b = torch.cat([b, b.new_zeros(len(b), rank - ranks[path], *b.shape[2:])], dim=1)
        named |= {each["A"]: a, each["B"]: b if own == common else b * (own / common)}
    settings = {
        "rank": rank, "alpha": alpha, "dropout": float(config.get("lora_dropout") or 0), "rslora": rooted,
        "dora": bool(config.get("use_dora")), "targets": ",".join(sorted(kinds)),
    }  # fmt: skip
    return settings, {
        PREFIX + name: named[name].contiguous() for each in kinds.values() for name in each.values()
    }  # fmt: skip


def _is_of_base(name: str, tensor: Tensor, base: Base) -> bool:
    """Whether a tensor is a weight of the base, as it is."""
    try:
        weight = base.model.get_parameter(name.replace(".base_layer.", "."))
    except AttributeError:
        return False
    return weight.shape == tensor.shape and torch.equal(weight.detach().float().cpu(), tensor)


def _by_pattern(patterns: Mapping[str, Any], path: str, default: float) -> float:
    """The first pattern that fits a path, as PEFT reads them: a regular expression for its end."""
    return float(next((v for p, v in patterns.items() if re.match(rf"(.*\.)?({p})$", path)), default))


def _other(
    engine: Engine, files: PeftFiles, tensors: Mapping[str, Tensor], base: Base
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and tensors of strategy `peft:<method>`, whose options are PEFT's own."""
    try:
        provided = engine.registry.resolve(f"peft:{files.method}")
    except StrategyNotFoundError:
        raise NotSupportedError(
            f"{files.folder}: PEFT's method '{files.method}' is provided by no installed strategy"
        ) from None
    fields = provided.spec.config.model_fields
    settings = {key: value for key, value in files.config.items() if key in fields and value is not None}
    targets = files.config.get("target_modules")
    if not isinstance(targets, list):
        raise NotSupportedError(f"{files.folder}: target_modules={targets!r} is no list of names")
    settings["targets"] = ",".join(sorted(targets))
    if isinstance(settings.get("feedforward_modules"), list):
        settings["feedforward_modules"] = ",".join(sorted(settings["feedforward_modules"]))
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    defaults = PEFT_TYPE_TO_CONFIG_MAPPING[files.method.upper()]().to_dict()
    _refuse_settings(files, frozenset(fields) | {"target_modules", "fan_in_fan_out", "modules_to_save"}, defaults)
    inner = local_names([name.removeprefix(PREFIX) for name in tensors], base.model, base.model.base_model_prefix)
    return settings, {PREFIX + inner[name.removeprefix(PREFIX)]: tensor.float() for name, tensor in tensors.items()}

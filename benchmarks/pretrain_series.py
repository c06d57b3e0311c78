"""Pre-train a small PatchTST on unlabelled series: masked patches are reconstructed (Nie et al. 2023, arXiv:2211.14730).

    python -m benchmarks.pretrain_series --kind cmapss|ucr --data FOLDER --out FOLDER [--steps N] [--seed S] [--random]

`cmapss` uses the 14 sensors of train_FD001.txt that are not constant, `ucr` the training series of every set in the
folder, one channel at a time. Labels are not used, test files are not read. Series are standardised channel by channel with the
mean and deviation of the training rows, and the base has no scaling of its own, which would remove the level. With
`--random` the same architecture is saved with random weights, as the control.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import PatchTSTConfig, PatchTSTForPretraining, PatchTSTModel

from adapterhub_lite.data.series import read_classification

Series = npt.NDArray[np.float64]
Batches = Callable[[torch.Generator], Tensor]

SENSORS = (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)
"""Sensors of FD001 that change, counted from 1; the first is column 5 of the file, counted from 0."""
SHAPES: dict[str, dict[str, Any]] = {
    "cmapss": {
        "context_length": 60, "patch_length": 10, "patch_stride": 10, "d_model": 32, "ffn_dim": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_input_channels": len(SENSORS),
    },
    "ucr": {
        "context_length": 256, "patch_length": 16, "patch_stride": 8, "d_model": 64, "ffn_dim": 128,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_input_channels": 1,
    },
}  # fmt: skip
STEPS = {"cmapss": 1500, "ucr": 900}
RATE = {"cmapss": 2e-3, "ucr": 1e-3}
BATCH = {"cmapss": 32, "ucr": 96}
HELD_OUT = 5
"""Every fifth engine or series is only for the held-out loss."""


def standardise(series: list[Series]) -> list[Series]:
    """Subtract each channel's mean over all rows and divide by its deviation, a constant channel by one."""
    rows = np.concatenate(series)  # (rows, channels)
    deviation = rows.std(axis=0)
    return [(one - rows.mean(axis=0)) / np.where(deviation > 1e-8, deviation, 1.0) for one in series]


def read_cmapss(folder: Path) -> tuple[list[list[Series]], list[Path]]:
    """The engines of train_FD001.txt as one group; each (cycles, 14)."""
    path = folder / "train_FD001.txt"
    table = np.loadtxt(path)
    columns = [4 + sensor for sensor in SENSORS]
    return [standardise([table[table[:, 0] == unit][:, columns] for unit in np.unique(table[:, 0])])], [path]


def read_ucr(folder: Path) -> tuple[list[list[Series]], list[Path]]:
    """The channels of NAME/NAME_TRAIN.ts, a group for each set; each (time, 1)."""
    paths = [path for path in sorted(folder.glob("*/*_TRAIN.ts")) if path.stem == f"{path.parent.name}_TRAIN"]
    groups = []
    for path in paths:
        series = [np.asarray(one, dtype=np.float64) for one in read_classification(path).inputs]
        groups.append([one[:, [k]] for one in standardise(series) for k in range(one.shape[1])])
    return groups, paths


def windows(engines: list[Series], length: int) -> Tensor:
    """The window that ends at each cycle, filled on the left with the first row. Shape (windows, length, channels)."""
    padded = [np.concatenate([np.repeat(one[:1], length - 1, axis=0), one]) for one in engines]
    cut = [np.lib.stride_tricks.sliding_window_view(one, length, axis=0).transpose(0, 2, 1) for one in padded]
    return torch.tensor(np.concatenate(cut), dtype=torch.float32)


def resampled(series: list[Series], length: int) -> Tensor:
    """Every series drawn out or pressed linearly to one length. Shape (series, length, 1)."""
    at = [np.linspace(0, len(one) - 1, length) for one in series]
    values = [np.interp(t, np.arange(len(one)), one[:, 0]) for t, one in zip(at, series, strict=True)]
    return torch.tensor(np.stack(values), dtype=torch.float32)[..., None]


def window_batches(data: Tensor, size: int) -> Batches:
    """Windows drawn evenly."""
    return lambda generator: data[torch.randint(len(data), (size,), generator=generator)]


def cropped_batches(groups: list[Tensor], size: int) -> Batches:
    """Series of every group equally often, cut to between half and all of their length, scaled and shifted."""

    def draw(generator: torch.Generator) -> Tensor:
        of = torch.randint(len(groups), (size,), generator=generator)
        chosen = [groups[g][int(torch.randint(len(groups[g]), (1,), generator=generator))] for g in of.tolist()]
        series = torch.stack(chosen)[..., 0]  # (batch, time)
        length = series.shape[1]
        share = 0.5 + 0.5 * torch.rand(size, 1, generator=generator)
        start = (1 - share) * torch.rand(size, 1, generator=generator)
        at = (start + share * torch.linspace(0, 1, length)) * (length - 1)  # (batch, time)
        left = at.long().clamp(max=length - 2)
        cut = torch.lerp(series.gather(1, left), series.gather(1, left + 1), at - left)
        scale = torch.exp(0.3 * torch.randn(size, 1, generator=generator))
        return (cut * scale + 0.2 * torch.randn(size, 1, generator=generator))[..., None]

    return draw


@torch.no_grad()
def held_out(model: PatchTSTForPretraining, data: Tensor) -> tuple[float, float, float]:
    """Squared error on masked patches: of the model, of the mean of what was seen, and of the last value seen."""
    model.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        output = model.model(past_values=data)
    model.train()
    patches, hidden = output.patch_input, output.mask  # (batch, channels, patches, length), (batch, channels, patches)
    seen = ~hidden[..., None]
    mean = (patches * seen).sum(dim=(2, 3)) / (seen.sum(dim=(2, 3)) * patches.shape[-1])  # (batch, channels)
    last, value = [], mean
    for p in range(patches.shape[2]):
        last.append(value)
        value = torch.where(hidden[:, :, p], value, patches[:, :, p, -1])
    guesses = (model.head(output.last_hidden_state), mean[..., None, None], torch.stack(last, dim=2)[..., None])
    own, trivial, carried = (float(((guess - patches) ** 2).mean(dim=-1)[hidden].mean()) for guess in guesses)
    return own, trivial, carried


def pretrain(model: PatchTSTForPretraining, draw: Batches, check: Tensor, steps: int, rate: float, seed: int) -> float:
    """AdamW with a warm-up of 6 % and a cosine to zero; returns the last held-out error."""
    generator = torch.Generator().manual_seed(seed)
    decayed = [p for p in model.parameters() if p.requires_grad and p.dim() >= 2]
    others = [p for p in model.parameters() if p.requires_grad and p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate)
    warmup, started, own = max(1, round(0.06 * steps)), time.monotonic(), math.nan
    for step in range(1, steps + 1):
        cosine = 0.5 * (1 + math.cos(math.pi * max(0, step - warmup) / max(1, steps - warmup)))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(step / warmup, cosine)
        loss = model(past_values=draw(generator)).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % max(1, steps // 5) == 0 or step == steps:
            own, trivial, carried = held_out(model, check)
            print(
                f"step {step}/{steps}  loss {loss.item():.4f}  held out {own:.4f} (mean {trivial:.4f}, last value "
                f"{carried:.4f})  {time.monotonic() - started:.0f} s",
                flush=True,
            )
    return own


def main() -> None:
    """Pre-train and save config, weights and where they came from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=sorted(SHAPES), required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random", action="store_true", help="save random weights, trained on nothing")
    options = parser.parse_args()
    kind, steps = options.kind, 0 if options.random else options.steps or STEPS[options.kind]
    torch.manual_seed(options.seed)
    config = PatchTSTConfig(**SHAPES[kind], norm_type="layernorm", pre_norm=False, scaling=None, random_mask_ratio=0.4)
    model = PatchTSTForPretraining(config)
    groups, paths = (read_cmapss if kind == "cmapss" else read_ucr)(options.data)
    train = [[one for i, one in enumerate(group) if i % HELD_OUT] for group in groups]
    rest = [one for group in groups for one in group[::HELD_OUT]]
    length, size = config.context_length, BATCH[kind]
    if kind == "cmapss":
        draw, check = window_batches(windows(train[0], length), size), windows(rest, length)[::8]
    else:
        draw, check = cropped_batches([resampled(group, length) for group in train], size), resampled(rest, length)
    error = pretrain(model, draw, check, steps, RATE[kind], options.seed) if steps else None
    model.model.config.do_mask_input = None  # masking is for pre-training; a loaded base sees everything
    model.model.save_pretrained(options.out)
    assert isinstance(PatchTSTModel.from_pretrained(options.out), PatchTSTModel)
    provenance = {
        "kind": kind, "steps": steps, "seed": options.seed, "held_out_error": error, "threads": torch.get_num_threads(),
        "data": {os.fspath(p.relative_to(options.data)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths},
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "numpy")},
    }  # fmt: skip
    (options.out / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
    print(f"saved {options.out} ({sum(p.numel() for p in model.model.parameters()):,} weights)")


if __name__ == "__main__":
    main()

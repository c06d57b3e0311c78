"""Pre-train a small PatchTST on unlabelled series.

Masked patches are reconstructed (Nie et al. 2023, arXiv:2211.14730). For machines that wear out, the model also learns how
many cycles lie between two windows of one engine, from the difference of a linear score of each (after Krokotsch, Knaak and
Guehmann 2022, "Improving Semi-Supervised Learning for Remaining Useful Lifetime Estimation Through Self-Supervision"). To
know the last cycle of an engine that broke is to know its label, so each engine is cut at a random 50 to 90 % of its life
first, as engines in service are, and of what comes after only the scale of each sensor is used.

    python -m benchmarks.pretrain_series --kind cmapss|ucr --data FOLDER --out FOLDER [--steps N] [--seed S] [--random]

`cmapss` uses the 14 sensors of train_FD001.txt that change, `ucr` the training series of every set in the
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

from adapterhub_series.data import read_classification

Series = npt.NDArray[np.float64]
Batches = Callable[[torch.Generator], Tensor]
Losses = Callable[[torch.Generator], Tensor]
Report = Callable[[], str]
Lesson = tuple[list[nn.Parameter], Losses, Report]
"""What is learnt, from which losses, and what to print."""

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
IN_SERVICE = (0.5, 0.9)
"""Of an engine's life, the share that is seen lies between these."""
SHORTEST = 25
"""Cycles of its window that a cut window keeps."""
SPAN = 50.0
"""Cycles that count as one in the loss of the time between two windows, which keeps it near that of masked patches."""
HELD_OUT = 5
"""Every fifth engine or series is only for the held-out loss."""


def standardise(series: list[Series]) -> list[Series]:
    """Subtract each channel's mean over all rows and divide by its deviation, a constant channel by one."""
    rows = np.concatenate(series)  # (rows, channels)
    deviation = rows.std(axis=0)
    return [(one - rows.mean(axis=0)) / np.where(deviation > 1e-8, deviation, 1.0) for one in series]


def read_cmapss(folder: Path, seed: int) -> tuple[list[list[Series]], list[Path]]:
    """The engines of train_FD001.txt in service, each (cycles, 14) up to a random share of its life, as one group."""
    path = folder / "train_FD001.txt"
    table, rng = np.loadtxt(path), np.random.default_rng(seed)
    columns = [4 + sensor for sensor in SENSORS]
    engines = standardise([table[table[:, 0] == unit][:, columns] for unit in np.unique(table[:, 0])])
    return [[one[: int(len(one) * rng.uniform(*IN_SERVICE))] for one in engines]], [path]


def read_ucr(folder: Path) -> tuple[list[list[Series]], list[Path]]:
    """The channels of NAME/NAME_TRAIN.ts, a group for each set; each (time, 1)."""
    paths = [path for path in sorted(folder.glob("*/*_TRAIN.ts")) if path.stem == f"{path.parent.name}_TRAIN"]
    groups = []
    for path in paths:
        series = [np.asarray(one, dtype=np.float64) for one in read_classification(path).inputs]
        groups.append([one[:, [k]] for one in standardise(series) for k in range(one.shape[1])])
    return groups, paths


def windows(engine: Series, length: int) -> Tensor:
    """The window that ends at each cycle from `length` on. Shape (windows, length, channels)."""
    cut = np.lib.stride_tricks.sliding_window_view(engine, length, axis=0).transpose(0, 2, 1)
    return torch.tensor(np.ascontiguousarray(cut), dtype=torch.float32)


def resampled(series: list[Series], length: int) -> Tensor:
    """Every series drawn out or pressed linearly to one length. Shape (series, length, 1)."""
    at = [np.linspace(0, len(one) - 1, length) for one in series]
    values = [np.interp(t, np.arange(len(one)), one[:, 0]) for t, one in zip(at, series, strict=True)]
    return torch.tensor(np.stack(values), dtype=torch.float32)[..., None]


def window_batches(data: Tensor, size: int) -> Batches:
    """Windows drawn evenly."""
    return lambda generator: data[torch.randint(len(data), (size,), generator=generator)]


def pairs(engines: list[Tensor], size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two windows of each of `size` engines drawn evenly, some begun late, and the cycles between the two.

    Returns:
        (2 * size, length, channels), first windows before second ones; and (size,).
    """
    of = [engines[int(i)] for i in torch.randint(len(engines), (size,), generator=generator)]
    first, second = ([int(torch.randint(len(one), (1,), generator=generator)) for one in of] for _ in range(2))
    chosen = torch.stack([one[t] for one, t in zip(of + of, first + second, strict=True)])
    # Three in ten have their beginning replaced by its last step, as the window of an engine that has just begun.
    length, late = chosen.shape[1], torch.rand(2 * size, generator=generator) < 0.3
    begin = torch.randint(0, length - SHORTEST, (2 * size,), generator=generator) * late
    at = torch.maximum(torch.arange(length)[None], begin[:, None])[..., None]  # (2 * size, length, 1)
    between = torch.tensor(second) - torch.tensor(first)
    return chosen.gather(1, at.expand_as(chosen)), between.float()


class TimeBetween(nn.Module):
    """How many cycles lie between two windows of one engine: the difference of a linear score of each."""

    def __init__(self, model: PatchTSTModel):
        super().__init__()
        self.model = model
        self.score = nn.Linear(model.config.num_input_channels * model.config.d_model, 1)

    def forward(self, both: Tensor, cycles: Tensor) -> Tensor:
        """Mean squared error in units of SPAN cycles, a scalar; as `pairs` gives them."""
        last = self.model(past_values=both).last_hidden_state[:, :, -1]  # (2 * size, channels, d_model)
        first, second = self.score(last.flatten(1)).squeeze(1).chunk(2)
        return nn.functional.mse_loss(second - first, cycles / SPAN)


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
def held_out(model: PatchTSTForPretraining, data: Tensor) -> str:
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
    return f"held out {own:.4f} (mean {trivial:.4f}, last value {carried:.4f})"


def wearing(masked: PatchTSTForPretraining, base: PatchTSTModel, groups: list[list[Series]], size: int) -> Lesson:
    """Masked patches, and the time between two windows."""
    between = TimeBetween(base)
    length = base.config.context_length
    engines = [windows(one, length) for one in groups[0] if len(one) > length]
    learnt, rest = [one for i, one in enumerate(engines) if i % HELD_OUT], engines[::HELD_OUT]
    draw, check = window_batches(torch.cat(learnt), size), torch.cat(rest)[::8]
    both, cycles = pairs(rest, 512, torch.Generator().manual_seed(0))

    def losses(generator: torch.Generator) -> Tensor:
        return between(*pairs(learnt, size, generator)) + masked(past_values=draw(generator)).loss

    def report() -> str:
        between.eval()
        with torch.no_grad():
            missed = SPAN * math.sqrt(float(between(both, cycles)))
        between.train()
        return (
            f"{held_out(masked, check)}, time {missed:.1f} cycles off (of {float(cycles.square().mean().sqrt()):.1f})"
        )

    return [*masked.parameters(), *between.score.parameters()], losses, report


def of_all_sets(masked: PatchTSTForPretraining, base: PatchTSTModel, groups: list[list[Series]], size: int) -> Lesson:
    """Masked patches of every set equally often."""
    length = base.config.context_length
    learnt = [resampled([one for i, one in enumerate(group) if i % HELD_OUT], length) for group in groups]
    check = resampled([one for group in groups for one in group[::HELD_OUT]], length)
    draw = cropped_batches(learnt, size)

    def losses(generator: torch.Generator) -> Tensor:
        return masked(past_values=draw(generator)).loss

    return list(masked.parameters()), losses, lambda: held_out(masked, check)


def pretrain(
    parameters: list[nn.Parameter], losses: Losses, report: Report, steps: int, rate: float, seed: int
) -> None:
    """AdamW with a warm-up of 6 % and a cosine to zero."""
    generator = torch.Generator().manual_seed(seed)
    decayed = [p for p in parameters if p.requires_grad and p.dim() >= 2]
    others = [p for p in parameters if p.requires_grad and p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate)
    warmup, started = max(1, round(0.06 * steps)), time.monotonic()
    for step in range(1, steps + 1):
        cosine = 0.5 * (1 + math.cos(math.pi * max(0, step - warmup) / max(1, steps - warmup)))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(step / warmup, cosine)
        loss = losses(generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % max(1, steps // 5) == 0 or step == steps:
            passed = time.monotonic() - started
            print(f"step {step}/{steps}  loss {loss.item():.4f}  {report()}  {passed:.0f} s", flush=True)


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
    shape: dict[str, Any] = {**SHAPES[kind], "norm_type": "layernorm", "pre_norm": False, "scaling": None}
    masked = PatchTSTForPretraining(PatchTSTConfig(**shape, random_mask_ratio=0.4))
    with torch.random.fork_rng(devices=[]):  # what is drawn here is thrown away
        base = PatchTSTModel(PatchTSTConfig(**shape))  # sees everything; its weights are those of the masked one
    base.encoder = masked.model.encoder
    groups, paths = read_cmapss(options.data, options.seed) if kind == "cmapss" else read_ucr(options.data)
    parameters, losses, report = (wearing if kind == "cmapss" else of_all_sets)(masked, base, groups, BATCH[kind])
    if steps:
        pretrain(parameters, losses, report, steps, RATE[kind], options.seed)
    base.save_pretrained(options.out)
    provenance = {
        "kind": kind, "steps": steps, "seed": options.seed, "held_out": report(), "threads": torch.get_num_threads(),
        "data": {os.fspath(p.relative_to(options.data)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths},
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "numpy")},
    }  # fmt: skip
    (options.out / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
    print(f"saved {options.out} ({sum(p.numel() for p in base.parameters()):,} weights)")


if __name__ == "__main__":
    main()

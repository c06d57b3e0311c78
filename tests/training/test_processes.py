"""Two processes on gloo, started as `accelerate launch` does: the losses of one process, and files that load anywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import adapterhub_lite as ah
from adapterhub_lite.cli import main
from adapterhub_lite.data.batches import epoch_batches

TEXTS = ["one two three", "good day", "bad day and cold room", "my card is in the bank", "seven", "warm fish a b"] * 2


def launched(*arguments: object) -> None:
    """Run `adapterhub-lite train` in two processes."""
    # `accelerate launch` starts several processes on GPUs, or through MPI; on one machine's CPU torchrun does.
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, "-m", "adapterhub_lite", "train", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("trained weights") == 1, "one process speaks"


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_give_the_losses_of_one_and_resume_exactly(references, tmp_path, monkeypatch):
    data = tmp_path / "data.csv"
    data.write_text("text,label\n" + "".join(f"{text},{'xy'[i % 2]}\n" for i, text in enumerate(TEXTS)))
    # Batches of 5 of 12 rows: shares of 3 and 2, and a last batch of 2. No dropout, which each process draws anew.
    given = ["--base", references("tiny-bert"), "--data", data, "--task", "text-classification", "--dtype", "float32"]
    given += ["--steps", "6", "--batch-size", "5", "--micro-batch-size", "2", "--set", "rank=2", "--set", "dropout=0"]
    given += ["--lr", "0.01", "--checkpoint-every", "3"]
    config = Path(references("tiny-bert")) / "config.json"
    base = tmp_path / "base"
    shutil.copytree(config.parent, base)
    quiet = json.loads(config.read_text()) | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (base / "config.json").write_text(json.dumps(quiet))
    given[1] = str(base)

    monkeypatch.setattr(sys, "argv", ["adapterhub-lite", "train", *map(str, given), "--out", str(tmp_path / "one")])
    with pytest.raises(SystemExit, match="0"):
        main()
    launched(*given, "--out", tmp_path / "two")
    one, two = losses(tmp_path / "one.run"), losses(tmp_path / "two.run")
    assert len(one) == 6
    assert json.loads((tmp_path / "two.run" / "run.json").read_text())["identity"]["processes"] == 2
    assert two == pytest.approx(one, abs=1e-5)
    assert one[-1] != pytest.approx(one[0], abs=1e-3)

    adapter = ah.load_adapter(tmp_path / "two", device="cpu")  # in one process, without accelerate
    assert len(adapter.predict(["good day"])) == 1

    # As if both processes had been killed after step 3.
    saved = (tmp_path / "two" / "adapter_model.safetensors").read_bytes()
    log = (tmp_path / "two.run" / "metrics.jsonl").read_bytes()
    (tmp_path / "two.run" / "finished.json").unlink()
    shutil.rmtree(tmp_path / "two.run" / "checkpoints" / "step-00000006")
    shutil.rmtree(tmp_path / "two")
    launched("--resume", "--out", tmp_path / "two")
    assert (tmp_path / "two" / "adapter_model.safetensors").read_bytes() == saved
    assert (tmp_path / "two.run" / "metrics.jsonl").read_bytes() == log
    assert "resuming after step 3" in (tmp_path / "two.run" / "events.log").read_text()

    (tmp_path / "two.run" / "finished.json").unlink()
    arguments = ["adapterhub-lite", "train", "--resume", "--out", str(tmp_path / "two")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match="2"):
        main()  # the random streams of two processes cannot be continued by one


def test_statistics_of_batch_normalisation_are_the_mean_of_both_processes(references, pictures, tmp_path):
    """Each process normalises by its share of a batch; the statistics that are saved are of both."""
    folder = Path(pictures.inputs[0]).parents[1]
    given = ["--base", references("tiny-resnet"), "--data", folder, "--task", "image-classification"]
    given += [
        "--strategy",
        "full",
        "--from-scratch",
        "--batch-size",
        "4",
        "--steps",
        "2",
        "--warmup",
        "0",
        "--lr",
        "1e-30",
    ]
    launched(*given, "--out", tmp_path / "two")
    adapter = ah.load_adapter(tmp_path / "two", device="cpu")
    base = adapter.attachment.base
    pixels = base.processor([Image.open(path) for path in pictures.inputs], return_tensors="pt")["pixel_values"]
    wanted, norm = [], "embedder.embedder.normalization"
    first = base.model.get_submodule("embedder.embedder.convolution")
    start = ah.load_base(f"scratch:0:{references('tiny-resnet')}").model.get_submodule(norm).running_mean
    rows = epoch_batches(12, 4, seed=0, epoch=0)[:2]
    for part in (0, 1):
        mean = start.clone()
        for batch in rows:
            with torch.no_grad():
                mean = 0.9 * mean + 0.1 * first(pixels[batch[part::2]]).mean(dim=(0, 2, 3))
        wanted.append(mean)
    running = adapter.attachment.tensors[f"{norm}.running_mean"]
    assert torch.allclose(running, (wanted[0] + wanted[1]) / 2, atol=1e-5)
    assert not torch.allclose(running, wanted[0], atol=1e-5)

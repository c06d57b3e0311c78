"""Two processes on gloo, started as `accelerate launch` does: the losses of one process, and files that load anywhere."""

from __future__ import annotations

import json
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
from tests.training import launched

TEXTS = ["one two three", "good day", "bad day and cold room", "my card is in the bank", "seven", "warm fish a b"] * 2


def launch(*commands: list[object]) -> None:
    """Run command lines of `adapterhub-lite`, one after another, in two processes."""
    # `accelerate launch` starts several processes on GPUs, or through MPI; on one machine's CPU torchrun does.
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    given = json.dumps([list(map(str, command)) for command in commands])
    done = subprocess.run(
        [*launcher, launched.__file__, given], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " ".join(done.stdout.split()).count("trained weights") == len(commands), "one process speaks"


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(references, pictures, tmp_path_factory):
    """Runs of two processes: on texts, `two` and, with the base spread over both, `sharded`; on images, `images`."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "data.csv").write_text(
        "text,label\n" + "".join(f"{text},{'xy'[i % 2]}\n" for i, text in enumerate(TEXTS))
    )
    config = Path(references("tiny-bert")) / "config.json"
    shutil.copytree(config.parent, folder / "base")
    quiet = json.loads(config.read_text()) | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "base" / "config.json").write_text(json.dumps(quiet))
    # Dropout stays on where the base is spread: resuming has to find each process's own random numbers again.
    sharded = ["train", "--shard", "--base", references("tiny-bert"), *text_run(folder), "--set", "dropout=0.1"]
    images = ["train", "--base", references("tiny-resnet"), "--data", Path(pictures.inputs[0]).parents[1]]
    images += ["--task", "image-classification", "--strategy", "full", "--from-scratch", "--batch-size", "4"]
    images += ["--steps", "2", "--warmup", "0", "--lr", "1e-30"]
    launch(
        [*without_dropout(folder), "--out", folder / "two"],
        [*sharded, "--out", folder / "sharded"],
        [*images, "--out", folder / "images"],
    )
    return folder


def text_run(folder: Path) -> list[object]:
    # Batches of 5 of 12 rows: shares of 3 and 2, and a last batch of 2.
    given = ["--data", folder / "data.csv", "--task", "text-classification", "--dtype", "float32", "--steps", "6"]
    return [*given, "--batch-size", "5", "--micro-batch-size", "2", "--set", "rank=2", "--checkpoint-every", "3"]


def without_dropout(folder: Path) -> list[object]:
    """Each process would draw its own."""
    return ["train", "--base", folder / "base", *text_run(folder), "--set", "dropout=0", "--lr", "0.01"]


def state(run: Path) -> dict[str, bytes]:
    """Everything of a run that a resumed one has to come to again."""
    paths = [*(run / "checkpoints" / "step-00000006").iterdir(), run / "metrics.jsonl"]
    paths.append(run.with_suffix("") / "adapter_model.safetensors")
    return {path.name: path.read_bytes() for path in paths}


def test_two_processes_give_the_losses_of_one(folder, tmp_path, monkeypatch):
    given = [*without_dropout(folder), "--out", tmp_path / "one"]
    monkeypatch.setattr(sys, "argv", ["adapterhub-lite", *map(str, given)])
    with pytest.raises(SystemExit, match="0"):
        main()
    one, two = losses(tmp_path / "one.run"), losses(folder / "two.run")
    assert len(one) == 6
    assert json.loads((folder / "two.run" / "run.json").read_text())["identity"]["processes"] == 2
    assert two == pytest.approx(one, abs=1e-5)
    assert one[-1] != pytest.approx(one[0], abs=1e-3)

    adapter = ah.load_adapter(folder / "two", device="cpu")  # in one process, without accelerate
    assert len(adapter.predict(["good day"])) == 1


def test_runs_that_were_killed_go_on_to_the_same_bytes(folder, monkeypatch):
    runs = [folder / "two.run", folder / "sharded.run"]
    before = [state(run) for run in runs]
    assert len(losses(folder / "sharded.run")) == 6
    for run in runs:
        # As if both processes had been killed after step 3.
        (run / "finished.json").unlink()
        shutil.rmtree(run / "checkpoints" / "step-00000006")
        shutil.rmtree(run.with_suffix(""))
    launch(*(["train", "--resume", "--out", run.with_suffix("")] for run in runs))
    for run, saved in zip(runs, before, strict=True):
        assert state(run) == saved
        assert "resuming after step 3" in (run / "events.log").read_text()

    (folder / "two.run" / "finished.json").unlink()
    arguments = ["adapterhub-lite", "train", "--resume", "--out", str(folder / "two")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match="2"):
        main()  # the random streams of two processes cannot be continued by one


def test_statistics_of_batch_normalisation_are_the_mean_of_both_processes(folder, references, pictures):
    """Each process normalises by its share of a batch; the statistics that are saved are of both."""
    adapter = ah.load_adapter(folder / "images", device="cpu")
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

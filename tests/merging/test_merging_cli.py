"""The verbs merge, combine, import-peft and export, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_merge(run: Any, adapt: Any, tmp_path: Path) -> None:
    adapter = adapt("tiny-bert", "text-classification", rank=4)
    code, out, _ = run("merge", adapter, "--out", tmp_path / "merged", "--device", "cpu", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["shard_by_shard"] is True
    assert report["report"]["largest_difference"] <= 1e-4
    assert report["report"]["agreement"] == 1
    (tmp_path / "data.csv").write_text("text\nmy card is not here\n")
    for source in (adapter, tmp_path / "merged" / "head"):
        code, _, err = run("predict", source, "--data", tmp_path / "data.csv", "--out", tmp_path / f"{source.name}.csv")
        assert code == 0, err
    one, two = (dict_of(tmp_path / name) for name in ("adapter.csv", "head.csv"))
    assert one["prediction"] == two["prediction"]
    code, _, err = run("merge", adapter, "--out", tmp_path / "merged")
    assert code == 1
    assert "not an empty folder" in err


def dict_of(file: Path) -> dict[str, str]:
    import csv

    with file.open(newline="") as lines:
        return next(csv.DictReader(lines))


def test_combine(run: Any, adapt: Any, tmp_path: Path) -> None:
    paths = [adapt("tiny-llama", "causal-lm", rank=4), adapt("tiny-llama", "causal-lm", rank=4, seed=1)]
    code, out, _ = run("combine", *paths, "--weights", "0.7,0.3", "--out", tmp_path / "both", "--device", "cpu")
    assert code == 0
    assert "2 adapters combined" in out
    assert "rank 8" in out
    manifest = json.loads((tmp_path / "both" / "adapterhub.json").read_text())
    assert manifest["metrics"] == {}
    assert manifest["training"]["combined"].startswith("0.7 of ")
    code, _, _ = run("verify", tmp_path / "both")
    assert code == 0
    code, _, err = run("combine", *paths, "--weights", "0.7;0.3", "--out", tmp_path / "no")
    assert code == 2
    assert "--weights 0.7;0.3" in err


def test_export_and_import(run: Any, adapt: Any, references: Any, tmp_path: Path) -> None:
    adapter = adapt("tiny-llama", "causal-lm", rank=4)
    assert run("export", adapter, "--to", "peft", "--out", tmp_path / "peft")[0] == 0
    code, out, err = run(
        "import-peft", tmp_path / "peft", "--base", references("tiny-llama"), "--out", tmp_path / "back", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["strategy"] == "lora"
    assert run("verify", tmp_path / "back")[0] == 0
    assert run("export", adapter, "--to", "gguf", "--out", tmp_path / "lora.gguf")[0] == 0
    assert run("export", adapter, "--to", "merged", "--out", tmp_path / "merged")[0] == 0
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    code, _, err = run("export", adapter, "--to", "onnx", "--out", tmp_path / "no")
    assert code == 2
    assert "peft, merged, gguf" in err


def test_force_through_a_combination(run: Any, adapt: Any, references: Any, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(references("tiny-llama"), other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    paths = [adapt("tiny-llama", "causal-lm", rank=4), adapt(str(other), "causal-lm", rank=4)]
    assert run("combine", *paths, "--out", tmp_path / "no")[0] == 1
    code, _, err = run("combine", *paths, "--out", tmp_path / "forced", "--force")
    assert code == 0, err
    forced = json.loads((tmp_path / "forced" / "adapterhub.json").read_text())["forced"]
    assert len(forced) == 1
    assert "rms_norm_eps" in forced[0]

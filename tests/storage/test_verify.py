"""`verify`: what it checks, what it says, and its exit code."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from adapterhub_lite.storage.verify import verify_files


def forge(folder: Path, edit: Any = None) -> None:
    """Edit the manifest, and make all hashes agree with the files as they are now."""
    path = folder / "adapterhub.json"
    document = json.loads(path.read_bytes())
    for name in document["files"]:
        data = (folder / name).read_bytes()
        document["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    if edit is not None:
        edit(document)
    document["manifest_sha256"] = "0" * 64
    raw = json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
    path.write_bytes(raw.replace(b"0" * 64, hashlib.sha256(raw).hexdigest().encode(), 1))


def states(printed: str) -> dict[str, str]:
    return {check["name"]: check["state"] for check in json.loads(printed)["checks"]}


def test_a_sound_adapter_passes_every_check(run, adapter):
    outcome = run("verify", adapter, "--json")
    assert outcome.code == 0, outcome.err
    assert states(outcome.out) == {"files": "passed", "tensors": "passed", "base": "passed", "probe": "passed"}
    assert json.loads(outcome.out)["ok"] is True
    plain = run("verify", adapter)
    assert plain.code == 0
    assert "verified" in plain.out
    assert "3 inputs, largest difference" in plain.out


def test_files_only_imports_no_torch(adapter):
    code = (
        "import sys; from adapterhub_lite.cli import main\n"
        f"sys.argv = ['x', 'verify', {str(adapter)!r}, '--files-only', '--json']\n"
        "try:\n    main()\nexcept SystemExit as stop: assert not stop.code\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert states(done.stdout) == {"files": "passed", "tensors": "passed"}


def test_a_flipped_bit_fails_before_anything_is_loaded(run, adapter, monkeypatch):
    monkeypatch.setattr("adapterhub_lite.engine.Engine", lambda: pytest.fail("loaded an engine"))
    path = adapter / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    outcome = run("verify", adapter, "--json")
    assert outcome.code == 1
    assert states(outcome.out) == {"files": "failed", "tensors": "skipped"}
    assert outcome.err.startswith("error: ")
    assert "adapter_model.safetensors" in outcome.err


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_fails(adapter, value):
    path = adapter / "adapter_model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    name = sorted(tensors)[2]
    tensors[name] = tensors[name].copy()
    tensors[name].reshape(-1)[-1] = value
    safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})
    forge(adapter)
    stored, report = verify_files(adapter)
    assert stored is None
    assert [check.state for check in report.checks] == ["passed", "failed"]
    assert f"'{name}' holds values that are not finite" in str(report.error)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_finiteness_of_other_widths_agrees_with_numpy(tmp_path, dtype):
    import io

    from adapterhub_lite.errors import AdapterCorruptError
    from adapterhub_lite.storage.finite import check_finite
    from adapterhub_lite.storage.header import header_of

    rng = np.random.default_rng(0)
    for _ in range(60):
        bits = rng.integers(0, 256, 12 * np.dtype(dtype).itemsize, dtype=np.uint8)
        data = safetensors.numpy.save({"a": bits.view(dtype)})
        finite = True
        try:
            check_finite(io.BytesIO(data), header_of(data, tmp_path), tmp_path)
        except AdapterCorruptError:
            finite = False
        assert finite == bool(np.isfinite(bits.view(dtype)).all())


def test_finiteness_of_eight_bit_floats_agrees_with_torch(tmp_path):
    import io

    import safetensors.torch
    import torch

    from adapterhub_lite.errors import AdapterCorruptError
    from adapterhub_lite.storage.finite import check_finite
    from adapterhub_lite.storage.header import header_of

    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16):
        for value in range(256):
            raw = torch.tensor([1, value] if dtype != torch.bfloat16 else [1, 0, 0x80, value], dtype=torch.uint8)
            tensor = raw.view(dtype)
            data = safetensors.torch.save({"a": tensor})
            finite = True
            try:
                check_finite(io.BytesIO(data), header_of(data, tmp_path), tmp_path)
            except AdapterCorruptError:
                finite = False
            assert finite == bool(torch.isfinite(tensor.float()).all()), (dtype, value)


def test_another_base_fails_and_names_what_differs(run, adapter, references):
    outcome = run("verify", adapter, "--base", references("tiny-llama"), "--json")
    assert outcome.code == 1
    assert states(outcome.out) == {"files": "passed", "tensors": "passed", "base": "failed", "probe": "skipped"}
    assert "architecture" in outcome.err


def test_other_outputs_fail_the_replay(run, adapter):
    def edit(document: Any) -> None:
        document["probe"]["outputs"][1][0] += 0.01

    forge(adapter, edit)
    outcome = run("verify", adapter, "--json")
    assert outcome.code == 1
    assert states(outcome.out)["probe"] == "failed"
    assert "does not give the outputs seen when it was saved" in outcome.err
    assert "torch" in outcome.err


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([{"noise": "x"}], "probe input not understood"),
        ([{"messages": [{"role": "user"}]}], "probe input not understood"),
        ([7], "probe input not understood"),
        (["good"], "1 inputs but 3 rows"),
    ],
)
def test_a_forged_probe_is_refused(run, adapter, inputs, message):
    def edit(document: Any) -> None:
        document["probe"]["inputs"] = inputs
        if message != "1 inputs but 3 rows":
            document["probe"]["outputs"] = [[0.0, 0.0]]

    forge(adapter, edit)
    outcome = run("verify", adapter)
    assert outcome.code == 1
    assert message in outcome.err


def test_no_adapter(run, tmp_path):
    outcome = run("verify", tmp_path / "none", "--json")
    assert outcome.code == 1
    assert json.loads(outcome.out)["error"] == "AdapterNotFoundError"


def test_a_loaded_adapter_keeps_its_probe_when_saved_again(engine, load, references, adapter, tmp_path):
    again = engine.load_adapter(adapter, base=load(references("tiny-bert")))
    written = again.save(tmp_path / "again")
    again.detach()
    assert written.probe is not None
    assert written.probe.inputs == ["good money", "a good card", "my good bank"]


def test_an_image_model_is_replayed_on_noise(run, engine, load, references, pictures, tmp_path):
    from adapterhub_lite.training.config import TrainConfig

    trained = engine.train(
        load(references("tiny-vit")), pictures, strategy="lora", config=TrainConfig(steps=1, batch_size=4)
    )
    trained.save(tmp_path / "pictures")
    trained.detach()
    outcome = run("verify", tmp_path / "pictures", "--json")
    assert outcome.code == 0, outcome.err
    assert states(outcome.out)["probe"] == "passed"

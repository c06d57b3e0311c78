"""A base spread over two processes on gloo: the losses, scores and files of one process that has it whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import adapterhub_lite as ah
from adapterhub_lite.base.quantization import keep_quantization
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training import offload
from tests.training import sharded


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have run every case. The command line is in `test_processes.py`."""
    folder = tmp_path_factory.mktemp("sharded")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, sharded.__file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", sharded.CASES)
def test_a_sharded_run_is_the_run_of_one_process(name, folder, results, tmp_path, monkeypatch):
    monkeypatch.setattr(offload, "torch", torch)
    monkeypatch.setattr(offload, "SMALL", offload.SMALL)
    expected = sharded.run(name, tmp_path, shard=False)
    assert expected.get("moved", [True, 0]) == [True, 0]
    for of_process in results:
        assert of_process[name]["metrics"] == pytest.approx(expected["metrics"], rel=1e-6, abs=1e-5)
        texts = isinstance(expected["outputs"][0], str)
        assert of_process[name]["outputs"] == (
            expected["outputs"] if texts else pytest.approx(expected["outputs"], abs=1e-4)
        )
        assert of_process[name].get("moved") == expected.get("moved"), "activations, and no weights"
        assert of_process[name].get("bare", []) == pytest.approx(expected.get("bare", []), abs=1e-6)
        assert of_process[name]["parameters"] < 0.62 * expected["parameters"], "each process holds a part"
        halved = sharded.CASES[name].get("fails") in ("forward", "backward")
        assert of_process[name]["micro_batch"] == (1 if halved else expected["micro_batch"])
    lines = (tmp_path / f"{name}.run" / "metrics.jsonl").read_text().splitlines()
    others = (folder / "sharded" / f"{name}.run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len(others) == (0 if name == "linear_probe" else 8)
    for line, other in zip(map(json.loads, lines), map(json.loads, others), strict=True):
        assert other == pytest.approx(line, rel=1e-6, abs=1e-5)
    one = load_file(tmp_path / name / "adapter_model.safetensors")
    two = load_file(folder / "sharded" / name / "adapter_model.safetensors")
    assert one.keys() == two.keys()
    for key, tensor in one.items():
        torch.testing.assert_close(two[key], tensor, atol=2e-4, rtol=0)


def test_an_adapter_of_a_sharded_base_loads_anywhere(folder):
    base = tiny_base("encoder")
    adapter = ah.load_adapter(folder / "sharded" / "lora", base=base)
    said = [prediction.probability for prediction in adapter.predict(list(sharded.texts().inputs[:3]))]
    recorded = json.loads((folder / "found-0.json").read_text())["lora"]["outputs"]
    assert said == pytest.approx(recorded, abs=1e-5)


@pytest.mark.parametrize("name", ["lora", "prefix", "linear_probe"])
def test_scores_shared_by_whole_bases_are_those_of_one_process(name, results, tmp_path):
    expected = sharded.run(name, tmp_path, shard=False)  # 7 rows for 2 processes
    for of_process in results:
        assert of_process["whole"][name]["metrics"] == pytest.approx(expected["metrics"], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", ["full", "pissa"])
def test_what_changes_the_base_is_refused(name, results):
    assert all("--shard does not go with strategy" in of_process[name] for of_process in results)


def test_8_bit_weights_are_refused():
    class Int8Params(torch.nn.Parameter):
        """Called as that of bitsandbytes."""

    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    model[0].weight = Int8Params(torch.zeros(2, 2))
    with pytest.raises(NotSupportedError, match="--shard does not go with --quantize int8"):
        keep_quantization(model)


def test_one_process_has_nothing_to_share():
    with pytest.raises(ConfigError, match="this is one"):
        sharded.TrainConfig(shard=True).check(held_out=False)

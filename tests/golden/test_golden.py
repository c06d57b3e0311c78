"""Adapters of earlier versions load: those in this folder were saved once, and are never made again.

There is one for each task and strategy, made by `make.py` with the version that its manifest names. Whatever moves in the
package, they are to be verified, loaded, run and saved again by what a user calls, and by nothing else of ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from golden_list import GOLDEN, HERE, Golden, outputs
from safetensors.torch import load_file

import adapterhub_lite as ah

# Not bit for bit: in which order a sum is taken, and with it its last bits, depends on the processor. Of these outputs the
# largest difference seen with the instructions of other processors (SSE, AVX2, AVX512; one thread or two) is 4.5e-6.
# It is a share of the number, or of 1 where the number is smaller, being a difference of larger ones.
TOLERANCE = 2e-5
RECORDS = ("strategy", "base", "task", "data", "training", "metrics", "forced")
"""What an adapter that is loaded and saved again says as before."""

every_golden = pytest.mark.parametrize("golden", GOLDEN, ids=str)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bases are recorded by their paths from this folder."""
    monkeypatch.chdir(HERE)


def manifest(adapter: str | Path) -> dict[str, Any]:
    """What `adapterhub.json` of an adapter says."""
    return json.loads(Path(adapter, "adapterhub.json").read_text(encoding="utf-8"))


def as_before(after: dict[str, Any], before: dict[str, Any]) -> None:
    """Take out of a new manifest what may differ: the version that saved it, and options and facts that came since."""
    after["strategy"]["version"] = before["strategy"]["version"]
    for name in after["strategy"]["config"].keys() - before["strategy"]["config"].keys():
        del after["strategy"]["config"][name]
    facts = after["task"]["preprocessing"].get("facts", {})
    for name in {"turns", "learnt"} - before["task"]["preprocessing"].get("facts", {}).keys():
        facts.pop(name, None)  # how a language model's rows are written, and what is learnt of them
    if not facts:
        after["task"]["preprocessing"].pop("facts", None)


def without_class(after: dict[str, Any], tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take out of a new manifest the class of transformers that opens the adapter, and its names out of the tensors'.

    Since the adapters here were made, the files of PEFT's kind are named as that class has them, the head among them.
    """
    preprocessing = after["task"]["preprocessing"]
    known = preprocessing.get("facts", {}).pop("head_class", None)
    if known is None:
        return tensors
    if not preprocessing["facts"]:
        del preprocessing["facts"]
    inside = "base_model.model."
    names = {name: name.replace(f"{inside}{known['head']}.", "head.") for name in tensors}
    return {names[name].replace(inside + known["before"], inside): tensor for name, tensor in tensors.items()}


def tensors(adapter: str | Path) -> dict[str, torch.Tensor]:
    """The trained tensors of an adapter, by name."""
    return load_file(Path(adapter, "adapter_model.safetensors"))


def numbers_apart(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in a JSON value by its place; lists and objects by their lengths, so that empty ones count too."""
    if not isinstance(value, (dict, list)):
        yield place, value
        return
    yield place, f"{len(value)} values"
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield from numbers_apart(part, f"{place}/{key}")


def assert_same(loaded: Any, expected: Any) -> None:
    """The same JSON, floating-point numbers up to the tolerance."""
    here, there = dict(numbers_apart(loaded)), dict(numbers_apart(expected))
    assert list(here) == list(there)
    for place, value in there.items():
        wanted = pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE) if isinstance(value, float) else value
        assert here[place] == wanted, place


@every_golden
def test_it_is_verified(golden: Golden, run: Callable[..., Any]) -> None:
    done = run("verify", golden.adapter, "--base", HERE / golden.base, "--device", "cpu", "--json")
    assert done.code == 0, done.err
    assert {check["state"] for check in json.loads(done.out)["checks"]} <= {"passed", "skipped"}


@every_golden
def test_it_says_what_it_said(golden: Golden, engine: ah.Engine, tmp_path: Path) -> None:
    """It is loaded, gives the outputs of the day it was made, and is saved as it was."""
    adapter = engine.load_adapter(golden.adapter, base=golden.base, device="cpu")
    assert_same(outputs(adapter, golden), json.loads(Path(golden.outputs).read_text(encoding="utf-8")))

    adapter.save(tmp_path / "again")
    before, after = manifest(golden.adapter), manifest(tmp_path / "again")
    assert (before["task"]["name"], before["strategy"]["name"]) == (golden.task, golden.strategy)
    as_before(after, before)
    assert {name: after[name] for name in RECORDS} == {name: before[name] for name in RECORDS}
    assert_same(after["probe"], before["probe"])
    old, new = tensors(golden.adapter), tensors(tmp_path / "again")
    assert old.keys() == new.keys()
    for name, tensor in old.items():
        assert new[name].dtype == tensor.dtype, name
        assert torch.equal(new[name].view(torch.uint8), tensor.view(torch.uint8)), name


@pytest.mark.parametrize(
    "golden", [golden for golden in GOLDEN if "lora" in golden.name or golden.problem == "text-classification"], ids=str
)
def test_its_run_can_be_run_again(golden: Golden, run: Callable[..., Any], tmp_path: Path) -> None:
    """run.yaml still means the same: an adapter of the same kind, shape and settings.

    LoRA's default targets were called all-linear, which are all that there are where a model has no experts.
    """
    done = run("train", "--config", f"{golden.adapter}/run.yaml", "--out", tmp_path / "again", "--json")
    assert done.code == 0, done.err
    before, after = manifest(golden.adapter), manifest(tmp_path / "again")
    as_before(after, before)
    if after["strategy"]["config"].get("targets") == "all":
        assert "targets" not in yaml.safe_load(Path(golden.adapter, "run.yaml").read_text(encoding="utf-8"))["settings"]
        after["strategy"]["config"]["targets"] = "all-linear"
    old, new = tensors(golden.adapter), without_class(after, tensors(tmp_path / "again"))
    for name in ("strategy", "base", "task"):
        assert_same(after[name], before[name])
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in new.items()} == {
        name: (tensor.dtype, tensor.shape) for name, tensor in old.items()
    }


@every_golden
def test_it_does_not_tell_where_it_was_made(golden: Golden) -> None:
    """Nothing in it is a path from the root of a file system."""
    for file in (*Path(golden.adapter).glob("*.json"), Path(golden.adapter, "run.yaml"), Path(golden.outputs)):
        assert not re.search(r"""["'\s](/|~|[A-Za-z]:\\)\w""", file.read_text(encoding="utf-8")), file


def test_there_is_one_for_every_task_and_strategy(run: Callable[..., Any]) -> None:
    """A new task or strategy of ours needs one: add it to `golden_list.py` and run `make.py`.

    Of PEFT's methods, which are one plug-in with dozens of strategies, one stands for all.
    """
    tasks = json.loads(run("tasks", "--json").out)["tasks"]
    strategies = json.loads(run("strategies", "--json").out)["strategies"]
    ours = [strategy for strategy in strategies if strategy["dist"] == "adapterhub-lite"]
    assert {golden.task for golden in GOLDEN} == {task["name"] for task in tasks if task["dist"] == "adapterhub-lite"}
    assert {golden.strategy.partition(":")[0] for golden in GOLDEN} == {
        strategy["name"].partition(":")[0] for strategy in ours
    }
    together = {(golden.task, golden.strategy) for golden in GOLDEN}
    assert together == {(task, strategy) for task, _ in together for _, strategy in together}


def test_all_that_is_here_is_listed() -> None:
    listed = {Path(golden.adapter).name for golden in GOLDEN}
    assert {path.name for path in Path("adapters").iterdir() if not path.name.startswith(".")} == listed | {
        f"{name}.json" for name in listed
    }

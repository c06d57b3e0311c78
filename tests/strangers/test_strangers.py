"""Seven strategies, each written as a stranger would in a distribution of its own, against what each promises.

Every one has two files, as `plugins new` writes them, of at most 60 lines together.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from torch import nn

from adapterhub_causal_lm.tiny import completions
from adapterhub_lite.engine import Engine
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.progress import Silent
from adapterhub_lite.tasks.task import encode
from adapterhub_lite.testing import check_strategy
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig
from adapterhub_text.tiny import texts as tiny_texts
from tests.training.conftest import contents, equal
from tests.training.test_resume import Killed, killed_after

HERE = Path(__file__).parent
NAMES = sorted(path.parent.name for path in HERE.glob("*/strategy.py"))
LINES = 60
PLAIN = {"schedule": "constant", "warmup": 0.0, "clip": 1e9, "weight_decay": 0.0}


def engine_with(*names):
    plugins = Plugins()
    for name in names:
        plugins.register(importlib.import_module(name))
    return Engine(plugins, Silent())


def texts(name):
    """The kit's texts; for new tokens, the two words that matter are such tokens."""
    data = tiny_texts()
    if name != "new_tokens":
        return data
    inputs = [text.replace("good", "<topic>").replace("bad", "<tone>") for text in data.inputs]
    return dataclasses.replace(data, inputs=inputs)


def train(name, model="encoder", *, folder=None, resume=False, settings=None, data=None, **options):
    data = data or (texts(name) if model == "encoder" else completions())
    config = TrainConfig(**{"steps": 6, "batch_size": 8, "micro_batch_size": 4, "learning_rate": 1e-2, **options})
    return engine_with(name).train(
        tiny_base(model), data, strategy=name, settings=settings or {}, config=config, run_folder=folder, resume=resume
    )


def logged(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_there_are_seven():
    assert len(NAMES) == 7


@pytest.mark.parametrize("name", NAMES)
def test_it_is_short_and_imports_what_a_stranger_may(name):
    files = [HERE / name / "__init__.py", HERE / name / "strategy.py"]
    assert sum(len(file.read_text().splitlines()) for file in files) <= LINES
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            imported = [node.module] if isinstance(node, ast.ImportFrom) else []
            imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in imported:
                root = module.partition(".")[0]
                assert module == "adapterhub_lite.api" or root == "torch" or root in sys.stdlib_module_names, module


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(name, tmp_path, monkeypatch):
    options = {"checkpoint_every": 2, "schedule": "cosine"}
    whole = train(name, folder=tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        killed_after(patch, 5)
        with pytest.raises(Killed):
            train(name, folder=tmp_path / "cut", **options)
    resumed = train(name, folder=tmp_path / "cut", resume=True, **options)
    assert equal(dict(resumed.attachment.slots), dict(whole.attachment.slots))
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    lines = logged(tmp_path / "whole")
    assert [line["applied"] for line in lines] == [True] * 6


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_predicts_the_same(name, tmp_path):
    adapter = train(name)
    inputs = list(texts(name).inputs)
    expected = adapter.predict(inputs)
    adapter.save(tmp_path / "adapter")
    adapter.detach()
    loaded = engine_with(name).load_adapter(tmp_path / "adapter", base=tiny_base("encoder"))
    assert loaded.predict(inputs) == expected


EVERY_TIME = ("eva_start", "lora_plus", "routed_experts")
"""Those that the whole kit is run on in every run of the tests; the others by hand."""


@pytest.mark.parametrize(
    "name", [name if name in EVERY_TIME else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_the_conformance_kit_passes(name):
    (spec,) = importlib.import_module(name).adapterhub_strategies()
    results = check_strategy(spec)
    assert [(result.id, result.message) for result in results if not result.ok] == []
    assert sum(result.status == "passed" for result in results) > 40


def test_a_process_that_is_killed_by_the_system_leaves_a_run_to_go_on_with(tmp_path):
    """What is killed with `kill -9` gets to do nothing: averages, masks and the random state are on disk or nowhere."""
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "import test_strangers as strangers; from pathlib import Path\n"
        "strangers.train('rank_pruning', folder=Path(sys.argv[1]), steps=100_000, checkpoint_every=2)"
    )
    cut = tmp_path / "cut"
    process = subprocess.Popen([sys.executable, "-c", code, str(cut), str(HERE), *sys.path], start_new_session=True)
    try:
        ends = time.monotonic() + 120
        while not list(cut.glob("checkpoints/step-*/*")) and process.poll() is None and time.monotonic() < ends:
            time.sleep(0.02)
        time.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = int(max(path.name for path in cut.glob("checkpoints/step-*"))[-8:])
    options = {"steps": 100_000, "checkpoint_every": 2}
    with pytest.MonkeyPatch.context() as patch:
        killed_after(patch, 6)
        with pytest.raises(Killed):
            train("rank_pruning", folder=cut, resume=True, **options)
    with pytest.MonkeyPatch.context() as patch:
        killed_after(patch, done + 6)
        with pytest.raises(Killed):
            train("rank_pruning", folder=tmp_path / "whole", **options)
    assert len(logged(cut)) == done + 6
    assert contents(cut) == contents(tmp_path / "whole")


def test_lora_plus_is_that_of_peft():
    """Two steps of AdamW on PEFT's own groups, in a plain loop, against the engine's."""
    settings, rate, steps = {"rank": 2, "ratio": 8.0}, 1e-3, 4
    options = {**PLAIN, "batch_size": 16, "micro_batch_size": 16, "weight_decay": 0.1, "learning_rate": rate}
    ours = train("lora_plus", "decoder", settings=settings, steps=steps, **options).attachment

    started = train("lora_plus", "decoder", settings=settings, steps=1, **{**options, "learning_rate": 1e-30})
    plain = started.attachment  # where the other one began: a rate of 1e-30 changes nothing
    named = nn.Module()
    for name, parameter in plain.parameters.items():
        named.register_parameter(name.replace(".", "_").replace("_b", "_lora_B"), parameter)
    optimizer = create_loraplus_optimizer(
        named, torch.optim.AdamW, lr=rate, loraplus_lr_ratio=8.0, loraplus_weight_decay=0.1
    )
    base, task = plain.base, plain.task
    batch = task.collate(encode(task, completions(), base).examples, base)
    for _ in range(steps):
        optimizer.zero_grad()
        logits, targets = plain.logits(batch)
        nn.functional.cross_entropy(logits, targets).backward()
        optimizer.step()
    for name, parameter in ours.parameters.items():
        assert torch.allclose(parameter, plain.parameters[name], atol=1e-5), name
    moved = max(float(p.detach().abs().max()) for name, p in ours.parameters.items() if name.endswith(".b"))
    assert moved == pytest.approx(8.0 * rate * steps, rel=0.2), "as far as a rate 8 times that of A takes B"


def test_pruning_leaves_the_share_that_was_asked_for():
    strategy = train("rank_pruning", settings={"rank": 4, "keep": 0.25}, steps=9).attachment.strategy
    assert int(strategy.mask.sum()) == strategy.mask.numel() // 4


def test_eva_starts_at_the_main_directions_of_what_the_layers_are_given():
    adapter = train("eva_start", settings={"rank": 3}, steps=1, batch_size=16, micro_batch_size=16)
    ranks = adapter.attachment.config.ranks
    base, data = adapter.base, tiny_texts()
    assert sum(ranks.values()) == 3 * len(base.map.linears)
    assert len(set(ranks.values())) > 1
    assert max(ranks.values()) <= 6
    batch = adapter.attachment.task.collate(encode(adapter.attachment.task, data, base).examples, base)
    real = batch["attention_mask"].bool()
    with adapter.disabled():
        given = {}
        path = base.map.linears[0]
        handle = base.model.get_submodule(path).register_forward_pre_hook(lambda _, args: given.update(x=args[0][real]))
        adapter.attachment.task.features(base, batch)
        handle.remove()
    _, _, directions = torch.linalg.svd(given["x"], full_matrices=False)
    a = adapter.attachment.parameters[f"{path}.a"].detach()  # one step of 1e-2 away from its start
    best = directions[: ranks[path]]
    assert float(((a @ best.T) ** 2).sum() / (a**2).sum()) > 0.95


def test_the_penalty_is_logged_and_counts_once_whatever_the_micro_batch(tmp_path):
    for micro in (16, 2):
        train("orthogonal_lora", folder=tmp_path / f"{micro}", batch_size=16, micro_batch_size=micro, steps=4)
    whole, cut = logged(tmp_path / "16"), logged(tmp_path / "2")
    for key in ("loss", "penalty/orthogonality", "grad_norm"):
        assert [line[key] for line in cut] == pytest.approx([line[key] for line in whole], rel=1e-3)
    assert whole[-1]["penalty/orthogonality"] < whole[0]["penalty/orthogonality"]


def test_the_task_of_a_row_chooses_its_expert():
    attachment = train("routed_experts", steps=4).attachment
    base, task = attachment.base, attachment.task
    batch = dict(task.collate(encode(task, tiny_texts(), base).examples, base))
    routed = []
    for expert in (0, 1):
        batch["task_ids"] = torch.full((16,), expert)
        with torch.no_grad():
            routed.append(attachment.logits(batch)[0].clone())
    assert not torch.allclose(*routed)
    batch["task_ids"] = torch.arange(16) % 2
    with torch.no_grad():
        mixed = attachment.logits(batch)[0]
    assert torch.allclose(mixed[0::2], routed[0][0::2], atol=1e-5)
    assert torch.allclose(mixed[1::2], routed[1][1::2], atol=1e-5)


def test_nothing_but_the_rows_of_new_tokens_is_saved(tmp_path):
    adapter = train("new_tokens", steps=20)
    assert adapter.attachment.parameters.keys() == {"tokens.embedding"}
    assert adapter.evaluate(texts("new_tokens")).metrics["accuracy"] == 1.0
    known, tokenizer = len(adapter.base.tokenizer), adapter.base.tokenizer
    adapter.detach()
    assert len(adapter.base.tokenizer) == known - 2
    assert adapter.base.tokenizer is not tokenizer

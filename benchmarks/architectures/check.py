"""What is checked of one architecture: each strategy is attached, trained, saved, loaded, padded and opened by PEFT."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.names import one_line
from adapterhub_lite.progress import Silent
from adapterhub_lite.tasks.head import HeadTask
from adapterhub_lite.tasks.task import encode
from adapterhub_lite.testing.tokenizer import WORDS
from adapterhub_lite.training.config import TrainConfig
from benchmarks.architectures.tiny import model_class_of, write_tiny

COLUMNS = ("lora", "prefix", "linear_probe", "full", "causal-lm")
"""Strategies on a classifier, and LoRA on the language model itself."""
EXACT, EXACT_IN_SINGLE, PEFT_EXACT = 1e-6, 1e-4, 1e-5
"""How far outputs may be apart, as a share of the largest: in double and in single precision, and those of PEFT."""
SETTINGS: Mapping[str, Mapping[str, Any]] = {"linear_probe": {"penalty": 1.0}}
CONFIG = TrainConfig(steps=2, batch_size=6, learning_rate=1e-2, seed=0)


@dataclass(frozen=True)
class Result:
    """What came out for one architecture."""

    kind: str
    takes: str
    """"text" or "image"."""
    base: str
    """"ok", or why it is no base: begins with "not built", "refused" or "failed"."""
    strategies: Mapping[str, str] = field(default_factory=dict)
    """For each column "ok", with remarks, or what begins with "refused" or "failed"."""


def check(kind: str, engine: Engine) -> Result:
    """Check one architecture, in a process of its own."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    takes = "text" if model_class_of(kind).main_input_name == "input_ids" else "image"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "base"
        try:
            write_tiny(kind, folder)
        except Exception as error:
            return Result(kind, takes, f"not built: {one_line(error)[:200]}")
        run = _Runs(engine, folder)
        outcome = _told(run.load, folder)
        if outcome != "ok":
            return Result(kind, takes, outcome)
        outcomes = {}
        for column in COLUMNS:
            if column != "causal-lm" or run.bases[0].map.output is not None:
                outcomes[column] = _told(lambda column=column: run.check(column), folder)
                if not outcomes[column].startswith("ok"):
                    run.load()  # what an error left behind is no matter of the next strategy
        return Result(kind, takes, "ok", outcomes)


def _told(run: Callable[[], str], folder: Path) -> str:
    """What a check gives, or what it raises in a line: an error of ours is a refusal, any other one a failure."""
    try:
        return run()
    except AdapterHubError as error:
        return f"refused: {' '.join(str(error).split())}".replace(str(folder), "FOLDER")[:400]
    except Wrong as wrong:
        return f"failed: {wrong}"
    except Exception as error:
        return f"failed: {one_line(error)[:300]}".replace(str(folder), "FOLDER")


class Wrong(Exception):
    """What a check found."""


class _Runs:
    """The strategies on one base, which is loaded twice: to train on, and to open what was saved."""

    def __init__(self, engine: Engine, folder: Path):
        self.engine, self.folder, self.bases = engine, folder, []

    def load(self) -> str:
        """Load the bases."""
        self.bases = [self.engine.load_base(self.folder, dtype="float32", device="cpu") for _ in range(2)]
        return "ok"

    def check(self, column: str) -> str:
        """Check one column of the table."""
        base, other = self.bases
        task = "causal-lm" if column == "causal-lm" else f"{base.map.modality}-classification"
        strategy, saved = "lora" if column == "causal-lm" else column, self.folder.with_name(column)
        data = self.engine.load_data(rows(task, saved), task)
        adapter = self.engine.train(base, data, strategy=strategy, settings=SETTINGS.get(strategy), config=CONFIG)
        encoded = encode(adapter.attachment.task, data, base).examples
        remark = _gradients(adapter, encoded)
        before = _logits(adapter, encoded)
        if not bool(torch.isfinite(before).all()):
            raise Wrong("its outputs are not finite")
        adapter.save(saved)
        again = self.engine.load_adapter(saved, base=other)
        if not torch.equal(_logits(again, encoded), before):
            raise Wrong("a reloaded adapter gives other outputs")
        if strategy == "lora":
            try:
                _peft(adapter, self.folder, saved, encoded)
            except (AttributeError, TypeError, KeyError) as error:
                raise Wrong(f"PEFT cannot run it on this model: {one_line(error)[:200]}") from error
        _padding(again, encoded)
        adapter.detach()
        again.detach()
        return "; ".join(["ok", *filter(None, [remark])])


def rows(task: str, folder: Path) -> Any:
    """Eight texts of different lengths or six images, with two labels."""
    random = np.random.default_rng(0)
    if task == "image-classification":
        for number in range(6):
            path = folder.with_name("images") / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
        return folder.with_name("images")
    texts = [" ".join(random.choice(WORDS, size=length)) for length in (3, 11, 5, 8, 4, 12, 6, 7)]
    if task == "causal-lm":
        return [{"text": text} for text in texts]
    return [{"text": text, "label": "ab"[number % 2]} for number, text in enumerate(texts)]


def _batch(adapter: Adapter, examples: Any) -> dict[str, Tensor]:
    return dict(adapter.attachment.task.collate(examples, adapter.base))


def _logits(adapter: Adapter, examples: Any) -> Tensor:
    with torch.no_grad():
        return adapter.attachment.logits(_batch(adapter, examples))[0]


def _gradients(adapter: Adapter, examples: Any) -> str | None:
    """What of the adapter gets no gradient.

    Raises:
        Wrong: a tensor of a strategy that adds its own does not.
    """
    attachment = adapter.attachment
    tensors = {name: tensor for name, tensor in attachment.tensors.items() if tensor.requires_grad}
    with attachment.training():  # some models take another way there
        logits, targets = attachment.logits(_batch(adapter, examples))
        attachment.task.losses(logits, targets).sum().backward()
    dead = [name for name, tensor in tensors.items() if tensor.grad is None or not bool(tensor.grad.any())]
    for tensor in tensors.values():
        tensor.grad = None
    if not dead:
        return None
    told = f"no gradient in {len(dead)} of {len(tensors)} tensors, such as '{dead[0]}'"
    if attachment.provided.spec.name != "full":
        raise Wrong(told)
    return told


def _padding(adapter: Adapter, examples: Any) -> None:
    """In double precision an example alone gives what it gives among longer ones."""
    adapter.use()
    task, base = adapter.attachment.task, adapter.base
    model = copy.deepcopy(base.model).double()
    if getattr(model.config, "_experts_implementation", None) is not None:
        model.set_experts_implementation("eager")  # the quicker ones do not know double precision
    precise: Any = SimpleNamespace(
        model=model, map=base.map, tokenizer=base.tokenizer, processor=base.processor, flat=None
    )
    try:
        together, alone = _both_ways(task, precise, adapter, examples)
        limit = EXACT
    except RuntimeError as error:
        if not any(word in str(error) for word in ("dtype", "overflow")):
            raise  # another error than that of code that is written for single precision
        precise.model, limit = base.model, EXACT_IN_SINGLE
        together, alone = _both_ways(task, precise, adapter, examples)
    if together.shape != alone.shape:
        raise Wrong(f"alone it gives features of shape {tuple(alone.shape)}, in a batch {tuple(together.shape)}")
    difference = float((together - alone).abs().max() / alone.abs().max())
    if not difference <= limit:
        raise Wrong(f"an example alone and in a batch differ by {difference:.1e} of the largest feature")


def _both_ways(task: Any, base: Any, adapter: Adapter, examples: Any) -> tuple[Tensor, Tensor]:
    """Features of examples in one batch, and of each alone."""
    with torch.no_grad():
        together = task.features(base, _batch(adapter, examples))[0].double()
        alone = torch.cat([task.features(base, _batch(adapter, [example]))[0] for example in examples]).double()
    return together, alone


def _peft(adapter: Adapter, folder: Path, saved: Path, examples: Any) -> None:
    """PEFT opens the adapter, on the class its head is for where there is one, and gives the same outputs."""
    import transformers
    from peft import PeftModel

    adapter.use()
    task, batch = adapter.attachment.task, _batch(adapter, examples)
    inputs = {name: value for name, value in batch.items() if name != "targets"}
    if isinstance(task, HeadTask) and task.head_class is not None:
        inner = getattr(transformers, task.auto_class).from_pretrained(
            folder, num_labels=task.output_size, dtype=torch.float32, ignore_mismatched_sizes=True
        )
        with torch.no_grad():
            ours = adapter.attachment.logits(batch)[0]
            theirs = task.class_logits(PeftModel.from_pretrained(inner, saved).eval(), inputs)
    else:
        inner = Engine(progress=Silent()).load_base(folder, dtype="float32", device="cpu").model
        with torch.no_grad():
            ours = adapter.base.model(**inputs)[0]
            theirs = PeftModel.from_pretrained(inner, saved).eval().base_model.model(**inputs)[0]
    difference = float((ours - theirs).abs().max() / ours.abs().max())
    if not difference <= PEFT_EXACT:
        raise Wrong(f"PEFT gives other outputs, by {difference:.1e} of the largest")

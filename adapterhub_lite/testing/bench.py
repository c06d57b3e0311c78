"""What a check works with: a strategy, its config and a tiny model, and the steps that several checks take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.base.describe import backbone
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.strategy import FeatureProblem, Solver
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.observers import Observers
from adapterhub_lite.plugins.spec import StrategyConfig, StrategySpec, Traits, hookimpl
from adapterhub_lite.progress import Silent
from adapterhub_lite.tasks.task import Encoded, Example, Task, encode
from adapterhub_lite.testing.models import brought_models
from adapterhub_lite.testing.tiny_model import TinyModel
from adapterhub_lite.training.attachment import Attachment, attach
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.features import encode_features
from adapterhub_lite.training.loop import Training
from adapterhub_lite.training.prepare import prepare
from adapterhub_lite.training.protocols import Protocols
from adapterhub_lite.training.run.folder import RunFolder

RATE = 1e-2
"""Of what learns fastest on the tiny models, unless the strategy's own learning rate is higher."""


@dataclass(frozen=True)
class Bench:
    """Everything a check may use; each call of `base` and `attach` gives fresh ones."""

    spec: StrategySpec
    given: StrategyConfig | None
    """The config to check with; None for the default one."""
    model: TinyModel
    others: tuple[TinyModel, ...] = ()
    """All the models of this run."""

    @cached_property
    def engine(self) -> Engine:
        """An engine that knows this strategy and no other, and the tasks of the tiny models."""
        plugin = ModuleType("plugin_under_test")
        plugin.adapterhub_strategies = hookimpl(lambda: [self.spec])  # type: ignore[attr-defined]
        plugins = Plugins(enabled=False)
        plugins.register(plugin)
        for provider in dict.fromkeys(model.plugin for model in (self.model, *brought_models())):
            if provider is not None:
                plugins.register(provider)
        return Engine(plugins, Silent())

    @cached_property
    def config(self) -> StrategyConfig:
        """The config to check with."""
        return self.given if self.given is not None else self.spec.config()

    @cached_property
    def traits(self) -> Traits:
        """What the strategy promises with that config."""
        return self.spec.traits_of(self.config)

    @cached_property
    def refusal(self) -> str | None:
        """Why the strategy does not adapt this model, in its own words; None where it does."""
        try:
            self.attach(self.base())
        except NotSupportedError as error:
            return str(error)
        except (Exception, SystemExit):  # a crash is for the checks to report
            return None
        return None

    def base(self, *, quantization: str = "none", dtype: torch.dtype = torch.float32) -> Base:
        """A fresh base, each time with the same weights."""
        return self.model.base(quantization=quantization, dtype=dtype)

    def task(self, base: Base) -> Task:
        """The task of the model's problem."""
        return self.engine.task_for(base, self.model.problem())

    def attach(self, base: Base, *, config: StrategyConfig | None = None, seed: int = 0) -> Attachment:
        """Attach the strategy as the engine does, its random draws from `seed`."""
        torch.manual_seed(seed)
        config = self.config if config is None else config
        task, strategy = self.task(base), self.spec.make()
        attachment = attach(base, task, self.engine.plugins.strategies[0], strategy, config)
        if attachment.head is not None and attachment.parameters:
            # Behind the small weights that a head usually starts with, what the adapter does would hardly be seen.
            generator = torch.Generator().manual_seed(1)
            with torch.no_grad():
                attachment.head.weight.normal_(std=0.5, generator=generator)
        return attachment

    def adapter(self, attachment: Attachment) -> Adapter:
        """The attachment as what `Engine.train` returns, which can be saved."""
        inputs = list(self.model.problem().inputs[:2])
        return Adapter(attachment, self.engine.plugins, Silent(), probe_inputs=inputs)

    def batch(self, attachment: Attachment, rows: int = 8) -> dict[str, Tensor]:
        """A padded batch of the model's problem, targets included."""
        return dict(attachment.task.collate(self.encoded(attachment).examples[:rows], attachment.base))

    def encoded(self, attachment: Attachment) -> Encoded:
        """The model's problem; the most frequent words in it are tokens that the adapter added, if it did."""
        encoded = encode(attachment.task, self.model.problem(), attachment.base)
        return _with_added_tokens(encoded, attachment) if attachment.view.token_rows else encoded

    def inputs(self, base: Base, rows: int = 4, *, attachment: Attachment | None = None) -> dict[str, Tensor]:
        """A padded batch without targets: what the model itself takes, or the model with tokens that were added."""
        task = self.task(base)
        encoded = encode(task, self.model.problem(), base) if attachment is None else self.encoded(attachment)
        batch = task.collate(encoded.examples[:rows], base)
        return {key: value for key, value in batch.items() if key != "targets"}

    def protocols(self, attachment: Attachment) -> Protocols:
        """What the strategy does in a run, each call guarded as there."""
        return Protocols(attachment, 0)

    def prepare(self, attachment: Attachment) -> None:
        """Let the strategy start from the model's problem, if it does."""
        prepare(attachment, self.protocols(attachment), self.encoded(attachment), TrainConfig(steps=1, batch_size=8))

    def train(
        self, attachment: Attachment, steps: int, *, learn_head: bool = True, seed: int = 0, folder: Path | None = None,
        checkpoint_every: int = 1, resume: bool = False,
    ) -> None:  # fmt: skip
        """Train, or solve where the strategy does: the engine's own loop, encoder and solver interface.

        Checkpoints go into `folder`, where one is given; `resume` goes on from the newest.
        """
        encoded = self.encoded(attachment)
        if isinstance(attachment.strategy, Solver):
            features, targets = encode_features(attachment.base, attachment.task, encoded, Silent(), keep=False)
            assert targets is not None
            outputs = attachment.task.outputs(attachment.base)
            problem = FeatureProblem(features, targets, outputs, attachment.head, seed, lambda share, note: None)
            attachment.base.activate(attachment.view)
            attachment.strategy.solve(attachment.view, attachment.config, attachment.parameters, problem)
            return
        if attachment.head is not None:
            attachment.head.requires_grad_(learn_head)
        factors = [1.0, *(own.learning_rate for own in self.protocols(attachment).groups().values())]
        config = TrainConfig(
            steps=steps, batch_size=8, learning_rate=max(RATE, self.spec.learning_rate) / max(factors),
            schedule="constant", warmup=0, weight_decay=0, seed=seed, checkpoint_every=checkpoint_every,
        )  # fmt: skip
        torch.manual_seed(seed)
        run = RunFolder(folder, {}, resume=resume) if folder is not None else None
        try:
            Training(attachment, encoded, config, Silent(), Observers(None), folder=run).run()
        finally:
            if run is not None:
                run.close()

    def loss(self, attachment: Attachment) -> float:
        """Mean loss over the problem, in evaluation mode."""
        with torch.no_grad():
            logits, targets = attachment.logits(self.batch(attachment, rows=16))
        assert targets is not None
        return float(functional.cross_entropy(logits, targets))

    def gradients(self, attachment: Attachment, *, seed: int = 0) -> dict[str, Tensor | None]:
        """Gradients of one batch in training mode, by the name of the tensor; None where none arrives."""
        torch.manual_seed(seed)
        with attachment.training():
            logits, targets = attachment.logits(self.batch(attachment))
            assert targets is not None
            functional.cross_entropy(logits, targets).backward()
        gradients: dict[str, Tensor | None] = {}
        for name, tensor in attachment.tensors.items():
            gradients[name] = None if tensor.grad is None else tensor.grad.clone()
            tensor.grad = None
        return gradients

    def predictions(self, attachment: Attachment) -> Tensor:
        """Logits of base, strategy and head on a padded batch."""
        with torch.no_grad():
            return attachment.logits(self.batch(attachment))[0].clone()


def _with_added_tokens(encoded: Encoded, attachment: Attachment) -> Encoded:
    """Examples in which added tokens stand for the words that are most frequent, where they are plain token ids."""
    attachment.base.activate(attachment.view)
    embedding = attachment.base.model.get_input_embeddings()
    special = set(attachment.view.tokenizer.all_special_ids)
    listed = [example.inputs for example in encoded.examples if isinstance(example.inputs, list)]
    words = Counter(token for ids in listed for token in ids if token not in special)
    frequent = words.most_common(len(embedding.rows))
    new = {word: embedding.first + place for place, (word, _) in enumerate(frequent)}

    def replaced(example: Example) -> Example:
        inputs = example.inputs
        return replace(example, inputs=[new.get(i, i) for i in inputs] if isinstance(inputs, list) else inputs)

    return replace(encoded, examples=[replaced(example) for example in encoded.examples])


def outputs(base: Base, inputs: Mapping[str, Tensor]) -> Tensor:
    """Raw outputs of the model with whatever is mounted on it: logits, or the last hidden states."""
    dtype = next(p for p in base.model.parameters() if p.is_floating_point()).dtype
    options = {"use_cache": False} if base.map.causal else {}
    given = {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}
    with torch.no_grad():
        result: Tensor = base.model(**given, **options)[0]
    return result.clone()


def hidden_states(base: Base, inputs: Mapping[str, Tensor]) -> Tensor:
    """Last hidden states, of a language model those in front of its output layer."""
    options = {"use_cache": False} if base.map.causal else {}
    with torch.no_grad():
        result: Tensor = backbone(base.model)(**inputs, **options)[0]
    return result.clone()


def disturb(attachment: Attachment, *, seed: int = 7) -> None:
    """Move every tensor a little, so that the adapter does something, as if it had been trained."""
    generator = torch.Generator().manual_seed(seed)
    attachment.base.activate(attachment.view)
    with torch.no_grad():
        for tensor in attachment.tensors.values():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.add_(0.1 * noise.to(tensor.device, tensor.dtype))


def distance(left: Tensor, right: Tensor) -> float:
    """Largest difference, relative to the largest value (at least 1); infinite where values are not finite."""
    if left.shape != right.shape or not bool(torch.isfinite(left).all() and torch.isfinite(right).all()):
        return float("inf")
    scale = max(1.0, float(right.abs().max())) if right.numel() else 1.0
    return float((left.float() - right.float()).abs().max()) / scale if left.numel() else 0.0

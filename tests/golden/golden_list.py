"""The golden adapters: which there are, how each was made, and what is asked of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

# What every strategy is trained with. The tensors are to be small, and far enough from where they started.
STRATEGIES: Mapping[str, tuple[str, ...]] = {
    "lora": ("--set", "rank=2", "--lr", "2e-2"),
    "prefix": ("--set", "length=3", "--lr", "5e-2"),
    "linear_probe": ("--set", "folds=2"),
    "full": ("--lr", "5e-3"),
    "peft:ia3": ("--lr", "5e-2"),
}
# The base of every kind of problem, its task, its data, and what else is said to `train`.
PROBLEMS: Mapping[str, tuple[str, str, str, tuple[str, ...]]] = {
    "text-classification": ("encoder", "text-classification", "cards.csv", ()),
    "text-classification-several": ("encoder", "text-classification", "several.jsonl", ()),
    "text-regression": ("encoder", "text-regression", "pairs.csv", ()),
    "token-classification": ("encoder", "token-classification", "tags.jsonl", ()),
    "causal-lm": ("decoder", "causal-lm", "sums.jsonl", ()),
    "causal-lm-chat": ("decoder", "causal-lm", "chats.jsonl", ()),
    "causal-lm-text": ("decoder", "causal-lm", "texts.jsonl", ("--task-set", "packing=true")),
    "image-classification": ("image", "image-classification", "pictures.npz", ()),
    "series-classification": ("series", "series-classification", "waves.npz", ()),
    "series-regression": ("series", "series-regression", "engines.csv", ("--window", "12", "--stride", "4")),
}


@dataclass(frozen=True)
class Golden:
    """One golden adapter."""

    problem: str
    strategy: str
    variant: str = ""
    """What is special about it, where another one has the same problem and strategy."""
    more: tuple[str, ...] = field(default=(), repr=False)
    """Said to `train` beside what its problem and strategy say."""

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """Of its folder."""
        return "-".join(filter(None, (self.problem, self.strategy.replace(":", "_"), self.variant)))

    @property
    def task(self) -> str:
        """Name of the task."""
        return PROBLEMS[self.problem][1]

    @property
    def base(self) -> str:
        """Its base, by the path from this folder."""
        return f"bases/{PROBLEMS[self.problem][0]}"

    @property
    def data(self) -> str:
        """What it was trained on, by the path from this folder."""
        return f"data/{PROBLEMS[self.problem][2]}"

    @property
    def adapter(self) -> str:
        """Its directory, by the path from this folder."""
        return f"adapters/{self.name}"

    @property
    def outputs(self) -> str:
        """What it put out when it was made, by the path from this folder."""
        return f"adapters/{self.name}.json"

    @property
    def options(self) -> tuple[str, ...]:
        """What is said to `train` beside base, task, data and strategy."""
        return (*PROBLEMS[self.problem][3], *STRATEGIES[self.strategy], *self.more)


GOLDEN = (
    *(
        Golden(problem, strategy)
        for problem in PROBLEMS
        for strategy in STRATEGIES
        if problem not in ("causal-lm-chat", "causal-lm-text")
    ),
    Golden("causal-lm-chat", "lora"),
    Golden("causal-lm-text", "lora"),
    # What writes other tensors or another configuration than the plain case.
    Golden("text-classification", "lora", "dora", ("--set", "dora=true", "--set", "rslora=true")),
    Golden("causal-lm", "lora", "pissa", ("--set", "init=pissa")),
    Golden("causal-lm", "prefix", "text", ("--set", "text=one two three")),
    Golden("image-classification", "full", "top", ("--set", "top_layers=1")),
    Golden("text-classification", "linear_probe", "ridge", ("--set", "solver=ridge")),
)
PROMPTS = ("one two", "three four five")
"""What the language models continue."""


def outputs(adapter: Any, golden: Golden) -> Any:
    """All that an adapter says of its data, as JSON; run in this folder."""
    said: dict[str, Any] = {"metrics": adapter.evaluate(golden.data).metrics}
    if golden.task == "causal-lm":
        said["generated"] = [adapter.generate(prompt, max_new_tokens=8) for prompt in PROMPTS]
    else:
        said["predictions"] = [asdict(prediction) for prediction in adapter.predict(golden.data)]
    return json.loads(json.dumps(said))

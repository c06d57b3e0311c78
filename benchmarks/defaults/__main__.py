"""Measure the defaults of training, and write benchmarks/DEFAULTS.md.

    python -m benchmarks.defaults --data FOLDER --models FOLDER --made FOLDER [--only default] [--seeds 0,1] [--report]

What is measured is a line in `--log`, written as soon as it is there; a run that was killed goes on where it stopped. One
thread: OMP_NUM_THREADS=1. `--models` holds mobilenet_64 (MobileNetV2 whose preprocessor_config.json says 64 x 64 for both
sizes) and the bases of `benchmarks.pretrain_series --steps 500` as ucr and cmapss.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("ADAPTERHUB_CACHE_LIMIT", "0")  # every run encodes for itself, as a first one does

from adapterhub_lite.base.loading import Base
from adapterhub_lite.engine import Engine
from adapterhub_lite.progress import Silent
from benchmarks.defaults.measure import DEFAULTS, Way, measure, ways
from benchmarks.defaults.report import write_report
from benchmarks.defaults.sets import SETS, Folders

HERE = Path(__file__).parent
Key = tuple[str, int, str, int]


def read_log(path: Path) -> dict[Key, dict[str, Any]]:
    """What is measured, by set, number of the size, way and seed; the last line of a kind counts."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    records = [json.loads(line) for line in lines if line.endswith("}")]
    return {(record["set"], record["size"], record["way"], record["seed"]): record for record in records}


def main() -> None:
    """Measure what is missing, small sizes first, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "models", "made"):
        parser.add_argument(f"--{name}", type=Path, default=Path(name))
    parser.add_argument("--log", type=Path, default=HERE.parent / "defaults.jsonl")
    parser.add_argument("--only", choices=["grid", "default"], help="measure only these ways")
    parser.add_argument("--sets", help="only these, separated by commas")
    parser.add_argument("--sizes", default="0,1,2")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    options = parser.parse_args()
    folders = Folders(options.data, options.models, options.made)
    if not options.report:
        chosen = options.sets.split(",") if options.sets else [one.name for one in SETS]
        for seed in map(int, options.seeds.split(",")):
            for size in map(int, options.sizes.split(",")):
                for name in chosen:
                    run(folders, options.log, name, size, seed, options.only)
    write_report(read_log(options.log), HERE.parent / "DEFAULTS.md")


_bases: dict[str, Base] = {}
_engine = Engine(progress=Silent())


def run(folders: Folders, log: Path, name: str, size: int, seed: int, only: str | None) -> None:
    """Measure all ways on one part of one set that are not in the log."""
    one = next(one for one in SETS if one.name == name)
    wanted = [*(ways(size) if only != "default" else ()), *(DEFAULTS if only != "grid" else ())]
    missing = [way for way in wanted if (name, size, way.name, seed) not in read_log(log)]
    if not missing:
        return
    warm, reference = False, one.base.replace("MODELS", str(folders.models))
    if reference not in _bases:
        _bases[reference] = _engine.load_base(reference, dtype=one.dtype, device="cpu")
        warm = True
    pool, test = one.read(_engine, folders)
    train = one.part(pool, one.sizes[size], seed)
    if warm:  # what is imported and tried out once a process is no cost of a way
        measure(_engine, _bases[reference], train, test.select(range(4)), Way("warm", training={"steps": 2}), seed)
    for way in missing:
        record = measure(_engine, _bases[reference], train, test, way, seed)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"set": name, "size": size, "way": way.name, "seed": seed, **record}) + "\n")
        score = record["right"].count("1") / len(test) if "right" in record else -1
        print(f"{name} {len(train)} {way.name} seed {seed}: {score:.4f}, {record['cpu']:.1f} s", flush=True)


if __name__ == "__main__":
    main()

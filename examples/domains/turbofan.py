"""How many cycles does a jet engine have left? Pre-trained on its sensors without labels, then a number from 60 cycles.

    python examples/domains/turbofan.py --data FOLDER --out FOLDER --base BASE [--prepare]

FOLDER holds train_FD001.txt, test_FD001.txt and RUL_FD001.txt. BASE is what `python -m benchmarks.pretrain_series --kind
cmapss` writes. With --prepare only train.csv and test.csv are made. What lies in --out already is not trained again.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import adapterhub_lite as ah

NAMES = ("unit", "cycle", *(f"setting_{i}" for i in range(1, 4)), *(f"sensor_{i}" for i in range(1, 22)))
CHANGING = (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)  # the other sensors of FD001 are constant
CAP = 125


def write_tables(data: Path, out: Path) -> None:
    """A row a cycle, with the cycles that remain; the test engines are stopped before their end, which RUL_FD001 gives."""
    ends = [int(line) for line in (data / "RUL_FD001.txt").read_text().split()]
    for name in ("train", "test"):
        rows = [line.split() for line in (data / f"{name}_FD001.txt").read_text().splitlines() if line.strip()]
        last = {row[0]: int(row[1]) for row in rows}
        left = {unit: ends[int(unit) - 1] if name == "test" else 0 for unit in last}
        with (out / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*NAMES, "RUL"])
            writer.writerows([*row, left[row[0]] + last[row[0]] - int(row[1])] for row in rows)
        print(f"{name}.csv: {len(last)} engines, {len(rows)} cycles")


def main() -> None:
    """Make the tables, train what is missing, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the C-MAPSS text files")
    parser.add_argument("--out", type=Path, required=True, help="where tables, adapters and the plot go")
    parser.add_argument("--prepare", action="store_true", help="only make the tables")
    parser.add_argument("--base", type=Path, help="folder of the pre-trained PatchTST")
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    write_tables(arguments.data, out)
    if arguments.prepare:
        return
    if arguments.base is None:
        parser.error("give --base, the folder of the pre-trained PatchTST")

    from adapterhub_lite.data.sampling import subsample

    columns = {"series": "unit", "time": "cycle", "target": "RUL"}
    columns["channels"] = ",".join(f"sensor_{number}" for number in CHANGING)
    options = {"window": 60, "stride": 2, "last_only": True, "patch_pooling": "last", "target_cap": CAP}
    data = ah.load_data(out / "train.csv", "series-regression", columns=columns, options=options)
    ways = {
        "probe": ("frozen, ridge on its features", str(arguments.base), "linear_probe", 5e-4),
        "full": ("pre-trained, all weights tuned", str(arguments.base), "full", 5e-4),
        "scratch": ("random weights, all trained", f"scratch:0:{arguments.base}", "full", 2e-3),
    }
    panels = []
    for share, steps in ((1.0, 600), (0.1, 200)):
        some = subsample(data, fraction=share)  # of the engines, whole
        engines = len(set(some.groups or ()))
        for way, (title, reference, strategy, rate) in ways.items():
            folder = out / (f"turbofan-{way}" if share == 1 else f"turbofan-{way}-{engines}")
            if not folder.exists():
                base = ah.load_base(reference)
                config = ah.TrainConfig(learning_rate=rate, steps=steps, batch_size=32, schedule="cosine")
                ah.train(base, some, strategy=strategy, eval_data=out / "test.csv", config=config).save(folder)
            adapter = ah.load_adapter(folder)
            last = adapter.load_data(out / "test.csv")  # a window an engine: its last 60 cycles
            true = [min(target, CAP) for target in last.targets or ()]
            said = [prediction.value for prediction in adapter.predict(last)]
            score = adapter.evaluate(last)
            rmse, (low, high) = score.metrics["rmse"], score.intervals["rmse"]
            print(f"{engines:3} engines, {title:30}: RMSE {rmse:.2f} ({low:.2f} to {high:.2f}) on {score.n} engines")
            panels.append((f"{engines} engines, {title}\nRMSE {rmse:.1f} ({low:.1f} to {high:.1f})", true, said))

    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(8, 5.4), layout="constrained", sharex=True, sharey=True)
    for (title, true, said), panel in zip(panels, axes.flat, strict=True):
        panel.scatter(true, said, s=6)
        panel.plot([0, CAP], [0, CAP], color="tab:grey", linewidth=1)
        panel.set_title(title, fontsize=8)
    figure.supxlabel(f"cycles left (at most {CAP})", fontsize=9)
    figure.supylabel("predicted", fontsize=9)
    figure.savefig(out / "turbofan.png", dpi=75)
    print(f"drew {out / 'turbofan.png'}")


if __name__ == "__main__":
    main()

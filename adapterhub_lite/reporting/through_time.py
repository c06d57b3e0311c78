"""Windows of series one after the other: what was wanted and said of them, as time goes on."""

from __future__ import annotations

from typing import Any

from adapterhub_lite.reporting.known import Known
from adapterhub_lite.tasks.task import rows_of

MOST_GROUPS, MOST_POINTS, FEWEST = 4, 150, 5


def through_time(known: Known) -> list[dict[str, Any]]:
    """For the series with the most windows: wanted and predicted values, or the probability of the class that is wanted."""
    data, scored = known.held_out, known.scored
    if known.task.modality != "series" or data is None or data.groups is None or scored is None or scored.rows is None:
        return []
    rows: dict[Any, list[int]] = {}
    for row, group in enumerate(data.groups):
        rows.setdefault(group, []).append(row)
    numbers, outputs = rows_of(data), scored.rows.outputs
    made = []
    for group in sorted(rows, key=lambda group: -len(rows[group]))[:MOST_GROUPS]:
        own = sorted(rows[group], key=lambda row: numbers[row])
        if len(own) < FEWEST:
            continue
        own = own[:: -(-len(own) // MOST_POINTS)]
        targets = data.targets or ()
        if known.kind == "value":
            said = known.task.predictions(outputs.logits[own], outputs.data)
            points = [[float(targets[row]), one.value] for row, one in zip(own, said, strict=True)]  # type: ignore[attr-defined]
        elif known.kind == "class":
            p = outputs.logits[own].softmax(dim=1)
            points = [[1.0, float(p[i, targets[row]])] for i, row in enumerate(own) if targets[row] < p.shape[1]]
        else:
            continue
        made.append({"group": str(group), "windows": len(rows[group]), "points": points})
    return made

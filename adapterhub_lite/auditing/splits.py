"""Groups, such as patients, that are on both sides of a split."""

from __future__ import annotations

import numpy as np

from adapterhub_lite.auditing.finding import DATA, HELD_OUT, Finding, Row, fine, unknown
from adapterhub_lite.auditing.material import Material
from adapterhub_lite.auditing.twins import gained

NAME = "groups in both splits"


def groups_in_both(material: Material) -> list[Finding]:
    """Groups of the data that rows to score on are of as well."""
    held_out, groups = material.held_out, material.data.dataset.groups
    if held_out is None or groups is None:
        return []
    others = held_out.dataset.groups
    if others is None:
        return [unknown(NAME, "not looked for: the rows to score on have no column of groups")]
    shared = set(groups) & set(others)
    if not shared:
        return [fine(NAME, f"none of {len(set(others)):,} groups")]
    leaking = np.array([group in shared for group in others])
    # A group may be a person: rows are named, never the group.
    first = {group: place for place, group in reversed(list(enumerate(groups)))}
    rows = [
        Row(HELD_OUT, row, "of a group that is in the data too", (DATA, first[others[row]]))
        for row in np.flatnonzero(leaking).tolist()
    ]
    says = f"{len(shared):,} of {len(set(others)):,} groups to score on are in the data too, {len(rows):,} rows"
    advice = "split by group: give one file with --column group=NAME, and --hold-out"
    return [Finding(NAME, "alarm", says, advice, rows, len(shared), gained(material, leaking))]

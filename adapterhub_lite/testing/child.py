"""The kit in a process of its own: `python -m adapterhub_lite.testing.child DIST:NAME OPTIONS`.

Writes one JSON object a line to standard output: `{"checks": N}`, then for every check `{"running": id}` and
`{"result": {...}}`, and `{"done": true}` at the end, without which the process did not get there.
Where options name something that does not exist, `{"refused": why}` is all.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any


def main(arguments: list[str]) -> None:
    """Run the kit on one strategy, given as `dist:name`; options of `check_strategy` follow as a JSON object."""
    # What plug-ins and libraries print must not get between the lines of the protocol.
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def write(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=lines, flush=True)

    from adapterhub_lite.errors import AdapterHubError
    from adapterhub_lite.plugins.manager import Plugins
    from adapterhub_lite.plugins.shelf import strategy_shelf
    from adapterhub_lite.testing.run import bound_checks

    options = json.loads(arguments[1])
    try:
        spec = strategy_shelf(Plugins()).resolve(arguments[0]).spec
        bound = list(bound_checks(spec, expected_failures=options["expected_failures"], checks=options["checks"]))
    except AdapterHubError as error:
        write({"refused": str(error)})
        return
    write({"checks": len(bound)})
    for check in bound:
        write({"running": check.id})
        write({"result": asdict(check.result())})
    write({"done": True})


if __name__ == "__main__":
    main(sys.argv[1:])

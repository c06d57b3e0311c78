"""Command lines one after another, in the processes that torchrun starts: what takes long to import is imported once."""

from __future__ import annotations

import json
import sys
from unittest import mock

from torch import distributed

from adapterhub_lite.cli import main


def run(command: list[str]) -> None:
    sys.argv = ["adapterhub-lite", *command]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise


if __name__ == "__main__":
    *first, last = json.loads(sys.argv[1])
    with mock.patch.object(distributed, "destroy_process_group"):  # which the next one needs
        for command in first:
            run(command)
    run(last)

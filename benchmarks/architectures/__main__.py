"""`python -m benchmarks.architectures`: checks every architecture and writes docs/architectures.md.

`--shard 2/4` checks every fourth one beginning with the second, and `--out FILE` writes results as lines of JSON;
`--table FILE...` makes the document of such files. Names check those types alone and print them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from adapterhub_lite.engine import Engine
from adapterhub_lite.progress import Silent
from benchmarks.architectures.check import Result, check
from benchmarks.architectures.table import document
from benchmarks.architectures.tiny import kinds

LIMIT = 120
"""Seconds of computing that one architecture may take."""


def checked(names: Iterable[str]) -> Iterator[Result]:
    """Check architectures one after the other, each in a process of its own that may hang or die."""
    import peft  # noqa: F401  # once, for all processes

    engine = Engine(progress=Silent())
    for name in names:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
            signal.alarm(10 * LIMIT)  # for one that waits and does not compute
            code = 1
            try:
                with Path(os.devnull).open("w") as nowhere, os.fdopen(writer, "w") as file:
                    sys.stdout = sys.stderr = nowhere  # what libraries say of one another
                    json.dump(asdict(check(name, engine)), file)
                code = 0
            finally:
                os._exit(code)
        os.close(writer)
        with os.fdopen(reader) as file:
            told = file.read()
        _, status = os.waitpid(child, 0)
        if status == 0:
            yield Result(**json.loads(told))
        else:
            signum = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            late = signum in (signal.SIGALRM, signal.SIGXCPU, signal.SIGKILL)
            how = f"took more than {LIMIT} s" if late else f"ended with status {status}"
            yield Result(name, "text", f"failed: its process {how}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--shard", default="1/1")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, nargs="+")
    given = parser.parse_args()
    if given.table:
        lines = [line for path in given.table for line in path.read_text(encoding="utf-8").splitlines()]
        print(document([Result(**json.loads(line)) for line in lines]), end="")
        return
    number, of = map(int, given.shard.split("/"))
    out = given.out.open("w", encoding="utf-8") if given.out else sys.stdout
    began = time.monotonic()
    for result in checked((given.names or kinds())[number - 1 :: of]):
        out.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
        out.flush()
        print(f"{result.kind}: {time.monotonic() - began:.1f} s", file=sys.stderr)
        began = time.monotonic()


if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    main()

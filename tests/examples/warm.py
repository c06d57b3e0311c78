"""Run commands in forks of one process that has imported the large libraries: each spares seconds, and none of ours is in it.

    python warm.py SOCKET

A client sends its working folder, arguments and environment as JSON, and its standard streams as descriptors; the exit code
comes back.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import site
import socket
import sys
import sysconfig

CLIENT = """
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({socket!r})
asked = json.dumps([os.getcwd(), {module!r}, sys.argv[1:], dict(os.environ)]).encode()
socket.send_fds(server, [len(asked).to_bytes(8, "big")], [0, 1, 2])
server.sendall(asked)
code = server.recv(1)
sys.exit(code[0] if code else 1)
"""


def answer(client: socket.socket) -> None:
    """What a fork does: read what is asked, become that command and run it."""
    size, streams, _, _ = socket.recv_fds(client, 8, 3)
    with client.makefile("rb") as file:
        folder, module, arguments, variables = json.loads(file.read(int.from_bytes(size, "big")))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = [module, *arguments]
    sys.path.insert(0, "")
    site.addsitedir(sysconfig.get_paths()["purelib"])  # what was installed since then, by a .pth file too
    importlib.invalidate_caches()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def ended(child: int) -> int:
    """The exit code of a child as a shell gives it."""
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def main(path: str) -> None:
    """Serve until the process is ended; one command after the other."""
    import bitsandbytes
    import pandas
    import peft
    import torch
    import transformers.modeling_utils

    assert all((bitsandbytes, pandas, peft, torch, transformers.modeling_utils))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    print("ready", flush=True)
    while True:
        client, _ = server.accept()
        if (child := os.fork()) == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            server.close()
            answer(client)  # its end is that of the interpreter, SystemExit and all
            return
        with client:
            client.sendall(bytes([ended(child)]))


if __name__ == "__main__":
    main(sys.argv[1])

"""The engine's child process: loads one GGUF into llama.cpp's own server and serves it to the parent alone.

Run by file name, not as part of the package: it imports nothing of Samara, which keeps the start fast and lets a
crash in native code take nothing else down. Talks over its three standard streams:

  stdin   one line of JSON, the configuration; then nothing, and its end means that the parent is gone: exit
  stdout  one line of JSON, the report: {"ready": ADDRESS}, {"missing": WHY} or {"refused": WHY}; then nothing
  stderr  llama.cpp's log, errors only; whatever native code prints to stdout lands here too

Configuration: model (path), threads, context (tokens), key (of the API), socket (path of a Unix socket in a folder
of its own, or null for a loopback port), chat_template (a name that overrides the model's own, or null).
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any


def main() -> None:
    """Load, report, and stay until the parent closes our stdin or dies."""
    report = os.dup(1)  # stays open for our whole life: its end tells the parent that we are gone
    os.dup2(2, 1)
    line = sys.stdin.buffer.readline()
    if not line:
        return
    config = json.loads(line)
    _die_with_parent_while_loading()
    try:
        server, outcome = _load(config)
    except ImportError as error:
        server, outcome = None, {"missing": str(error)}
    except Exception as error:  # nothing but the report may leave this process
        server, outcome = None, {"refused": f"{type(error).__name__}: {error}"}
    _leave_signals_to_the_parent()
    with suppress(OSError):  # nobody is left to read it
        os.write(report, json.dumps(outcome).encode() + b"\n")
    if server is None:
        sys.exit(1)  # in the orderly way: llama.cpp writes what is left of its log
    sys.stdin.buffer.read()
    _remove(config["socket"])
    os._exit(0)  # without destructors: there is nothing to save, and they wait for whatever still runs


def _load(config: dict[str, Any]) -> tuple[object, dict[str, str]]:
    os.environ["GGML_NO_BACKTRACE"] = "1"  # ggml would start a debugger on abort
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = config["model"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = config["threads"]
    params.n_ctx = config["context"]
    params.n_parallel = 1
    params.warmup = False  # would run the whole model once before the first prompt does
    # Finding out how many layers fit a GPU reads the header once more: 1.3 s for a vocabulary of 128k tokens.
    params.fit_params = _has_gpu(xllamacpp)
    params.cache_ram_mib = 0  # a second copy of past conversations
    params.verbosity = 1
    params.offline = True
    params.ui = params.endpoint_slots = False
    params.n_threads_http = 3
    params.api_keys = [config["key"]]
    params.hostnames = [config["socket"] or "127.0.0.1"]
    params.port = 0
    if config["chat_template"] is not None:
        params.chat_template = config["chat_template"]
    server = xllamacpp.Server(params)
    return server, {"ready": server.listening_address}


def _has_gpu(xllamacpp: Any) -> bool:
    return any("GPU" in device["type"].name for device in xllamacpp.get_device_info())


def _die_with_parent_while_loading() -> None:
    """Loading holds the GIL for as long as it takes, so no thread of ours could notice the end of stdin.

    The kernel can: a pipe marked O_ASYNC sends SIGIO when its other end closes, and SIGIO ends a process that has no
    handler for it. (PR_SET_PDEATHSIG looks simpler, but fires when the parent's *thread* that started us ends.)
    Elsewhere the end of stdin is noticed once loading is done.
    """
    if sys.platform == "linux":
        import fcntl
        import select

        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
        parent = select.poll()
        parent.register(0, 0)  # hang-up is always reported
        if parent.poll(0):  # it closed before the signal was armed
            os._exit(1)


def _leave_signals_to_the_parent() -> None:
    """From now on the end of stdin is read, not signalled; and llama.cpp's handlers of other signals give way.

    They would only stop its loop, and leave this process behind. Ctrl-C is the parent's to decide.
    """
    import signal

    if sys.platform == "linux":
        signal.signal(signal.SIGIO, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _remove(socket: str | None) -> None:
    """The socket and its folder, which a parent that was killed leaves behind."""
    if socket is not None:
        with suppress(OSError):
            os.unlink(socket)  # noqa: PTH108  (pathlib costs start-up time)
        with suppress(OSError):
            os.rmdir(os.path.dirname(socket))  # noqa: PTH106, PTH120


if __name__ == "__main__":
    main()

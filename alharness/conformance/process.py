"""The other process: a second Python, started once, that prepares and asks on request."""

from __future__ import annotations

import atexit
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from alharness.conformance.queries import digest
from alharness.conformance.scene import Bench
from alharness.strategy import Strategy


class Helper:
    """A second Python, started once, that answers one JSON line per request."""

    def __init__(self) -> None:
        # Another hash seed: an order taken from a set of strings would show.
        environment = {**os.environ, "PYTHONHASHSEED": "12345"}
        code = "from alharness.conformance.process import serve; serve()"
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        atexit.register(self.process.kill)

    def ask(self, request: Mapping[str, Any]) -> dict[str, str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            helper.cache_clear()
            raise AssertionError("the other process ended while preparing or selecting")
        answer: dict[str, str] = json.loads(line)
        return answer


@lru_cache(maxsize=1)
def helper() -> Helper:
    return Helper()


def serve() -> None:
    """The other process's side: build the same bench, ask, and answer with the query's digest."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a plug-in prints must not mix with the answers
    for line in sys.stdin:
        request = json.loads(line)
        try:
            sys.path[:] = request["path"]
            torch.set_num_threads(request["threads"])
            bench = Bench(_find(request), request["parameters"], Path(request["root"]))
            answer = {"digest": digest(bench.scene().ask())}
        except Exception as error:  # reported by the process that asked
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _find(request: Mapping[str, Any]) -> type[Strategy]:
    """The class by module, or from its file when the module has no importable name."""
    found: type[Strategy]
    try:
        found = getattr(import_module(request["module"]), request["class"])
    except ModuleNotFoundError:
        found = runpy.run_path(request["file"])[request["class"]]
    return found

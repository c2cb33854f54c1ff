"""One visit, in a process of its own: ``visits`` asks on its input and reads the answers."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alharness.records import RunFolder
from alharness.tracking.stores import load_mlflow, store_error
from alharness.tracking.sync import bring
from alharness.tracking.view import open_tracking


def main() -> None:
    """Make one visit; the process that asked is gone when nobody reads the answers."""
    asked = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no answer

    def say(kind: str, **values: object) -> None:
        answers.write(json.dumps({"kind": kind, **values}) + "\n")

    make(asked, say)


def make(asked: Mapping[str, Any], say: Callable[..., None]) -> None:
    """The visit that is asked for; ``say`` gets each answer's kind and what belongs to it."""
    try:
        load_mlflow()
        say("imported")
        tracking = open_tracking(
            asked["uri"], asked["experiment"], tell=lambda text: say("told", text=text)
        )
        say("opened")
        parent = tracking.sweep(asked["sweep"]) if asked["sweep"] else None
        running = asked["status"] == "RUNNING"
        folders = [RunFolder(Path(path)) for path in asked["folders"]]
        for found in bring(folders, tracking, parent=parent, running=running, held=True):
            say("run", **({"text": found.reason} if found.reason else {}))
        if parent is not None:
            tracking.finish(parent, asked["status"])
        say("done")
    except Exception as error:  # of any library below MLflow
        say("failed", text=str(store_error(asked["uri"], error)))


if __name__ == "__main__":
    main()
    gc.freeze()  # the end looks through all objects for circles: of MLflow .6 s that free nothing

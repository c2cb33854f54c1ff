"""One command of alharness in a process that may kill itself on the way: what a nursery's child carries out.

Its globals come from ``conftest.py``: ``ARGUMENTS``, ``ENVIRONMENT``, ``OUTPUT`` (a file for all that is
printed), ``ROOT`` (below it writes are counted), ``COUNT`` (a file that gets their number), ``DEATH``
(the number of the write at which to die, or 0), ``SETTINGS`` (``module:name`` -> another default) and
``POWERLESS`` (without root's right to read and write everything).
"""

from __future__ import annotations

import ctypes
import importlib
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

given = globals()
ARGUMENTS: list[str] = given["ARGUMENTS"]
ENVIRONMENT: dict[str, str] = given["ENVIRONMENT"]
OUTPUT: str = given["OUTPUT"]
ROOT: str = given["ROOT"]
COUNT: str = given["COUNT"]
DEATH: int = given["DEATH"]
SETTINGS: dict[str, dict[str, Any]] = given["SETTINGS"]
POWERLESS: bool = given["POWERLESS"]

#: What changes a folder, as Python announces it; bringing to the disk is counted beside.
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "sqlite3.connect")
WRITING = os.O_WRONLY | os.O_RDWR

written = 0


def count(before_death: Any = None) -> None:
    global written
    written += 1
    if written == DEATH:
        if before_death is not None:
            before_death()
        os.kill(os.getpid(), signal.SIGKILL)


#: Where writing into an open file began: what lies before is on the disk.
begun: dict[Path, int] = {}


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    writes = event == "open" and arguments[2] & WRITING
    if not (writes or event in CHANGES) or isinstance(arguments[0], int):
        return
    path = Path(os.fsdecode(arguments[0]))
    if writes:
        kept = set("a+") & set(arguments[1] or "") and path.exists()
        begun[path] = path.stat().st_size if kept else 0
    if path.is_relative_to(ROOT):
        count()


def tear(descriptor: int) -> None:
    """Cut off what was just written, anywhere: it had not come to the disk."""
    path = Path(f"/proc/self/fd/{descriptor}").resolve()
    size = path.stat().st_size
    os.truncate(path, random.Random(DEATH).randint(min(begun.get(path, size), size), size))


to_disk = os.fsync


def fsync(descriptor: int) -> None:
    count(lambda: tear(descriptor))
    to_disk(descriptor)


def give_up_power() -> None:
    """Drop all capabilities, for programs started from here too: permissions hold for root as for anyone.

    See prctl(2) for PR_CAPBSET_DROP, and capset(2).
    """
    system = ctypes.CDLL(None)
    for capability in range(64):
        system.prctl(24, capability, 0, 0, 0)
    system.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())


os.environ.clear()
os.environ.update(ENVIRONMENT)
output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.dup2(output, 1)
os.dup2(output, 2)
for place, defaults in SETTINGS.items():
    module, name = place.split(":")
    getattr(importlib.import_module(module), name).__kwdefaults__.update(defaults)

from alharness.cli import call  # noqa: E402 - in the environment that was given

if POWERLESS:
    give_up_power()
os.fsync = fsync
sys.addaudithook(watch)
code = call(ARGUMENTS)
sys.stdout.flush()
Path(COUNT).write_text(str(written))
sys.exit(code)

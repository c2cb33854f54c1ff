"""Rows of numbers that were costly to read, kept as they were understood: a task's data in one folder.

What was written proves itself: a page of facts holds the digests of all arrays and of itself.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness.files import parse_json
from alharness.lazily import numpy as np
from alharness.progress import Progress
from alharness.tasks.originals.cache import META, page
from alharness.tasks.originals.conversion import locked, writing

if TYPE_CHECKING:
    from alharness.tasks.base import TaskData

#: Raised whenever the files change: older ones are made anew.
VERSION = 1
ARRAYS = ("pool_images", "pool_targets", "test_images", "test_targets")
#: What the items are called, where people are to label them.
NAMES = "pool_names"


def obtain_rows(
    path: Path,
    origin: Mapping[str, str],
    make: Callable[[], TaskData],
    progress: Progress,
    *,
    rebuild: bool = False,
) -> TaskData:
    """A task's rows, from where they are kept or made now.

    Args:
        path: of the folder.
        origin: what was read; another one is made anew.
        make: reads.
        progress: is told of a damaged folder.
        rebuild: make them anew although they are there.

    Raises:
        UserError: as ``make``; the place cannot be written to.
    """
    # Two runs that start at once read a large table once.
    with locked(path):
        found = None if rebuild else _read(path, origin, progress)
        if found is None:
            found = make()
            with writing(path):
                _write(path, origin, found)
        return found


def _write(path: Path, origin: Mapping[str, str], data: TaskData) -> None:
    # Beside its place and renamed: a folder that is there is whole.
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    digests = {}
    for name in [name for name in (*ARRAYS, NAMES) if getattr(data, name) is not None]:
        buffer = io.BytesIO()
        np.save(buffer, getattr(data, name), allow_pickle=False)
        content = buffer.getvalue()
        digests[name] = hashlib.sha256(content).hexdigest()
        (partial / f"{name}.npy").write_bytes(content)
    facts = {
        "version": VERSION,
        "origin": dict(origin),
        "files": digests,
        "class_names": data.class_names,
        "fingerprint": data.fingerprint,
        "pool_fingerprint": data.pool_fingerprint,
        "notes": dict(data.notes),
        "has_gaps": data.has_gaps,
    }
    (partial / META).write_text(page(facts), encoding="ascii")
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)


def _read(path: Path, origin: Mapping[str, str], progress: Progress) -> TaskData | None:
    """What is kept; None where that is nothing, something else, or damaged."""
    from alharness.tasks.base import TaskData

    if not (path / META).is_file():
        return None
    try:
        text = (path / META).read_text(encoding="ascii")
        facts: dict[str, Any] = parse_json(text)["facts"]
        if page(facts) != text:
            raise ValueError(META)
        # Whole, and of another version or file: made anew without a word.
        if facts["version"] != VERSION or facts["origin"] != dict(origin):
            return None
        arrays = {}
        for name in [*ARRAYS, *([NAMES] if NAMES in facts["files"] else [])]:
            content = (path / f"{name}.npy").read_bytes()
            if hashlib.sha256(content).hexdigest() != facts["files"][name]:
                raise ValueError(name)
            arrays[name] = np.load(io.BytesIO(content), allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        progress(f"{path} is damaged ({error}): read anew", 0, 1)
        return None
    return TaskData(
        class_names=tuple(facts["class_names"]),
        fingerprint=facts["fingerprint"],
        pool_fingerprint=facts["pool_fingerprint"],
        notes=facts["notes"],
        has_gaps=bool(facts.get("has_gaps", False)),
        **arrays,
    )

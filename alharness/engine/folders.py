"""The folder of a run: opened, held, and told when its run fails. Whoever wants a run's folder asks here.

A folder is not believed by its name. It may have been moved, copied or swapped with another one, so the
key of the spec that it holds is held against the key of the run that is asked for.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alharness.errors import PendingError, PluginError, UserError, explain, reason_of
from alharness.files import explained, locked, refusal, write_text
from alharness.records import RunFolder, SpecFacts
from alharness.spec import RunSpec


def open_folder(spec: RunSpec, runs_dir: Path, *, fresh: bool = False) -> RunFolder:
    """The folder of a run, which holds this run or none.

    Args:
        spec: the run that is asked for.
        runs_dir: root of all run folders.
        fresh: what is there will be thrown away, so that a spec that cannot be read is no reason to stop.

    Raises:
        UserError: it holds another run, its spec cannot be read, or a link leads out of it.
    """
    return require_own(RunFolder(spec.folder(runs_dir)), spec, runs_dir, fresh=fresh)


def require_own(
    folder: RunFolder,
    spec: RunSpec,
    runs_dir: Path,
    *,
    fresh: bool = False,
    found: SpecFacts | None = None,
) -> RunFolder:
    """As ``open_folder``, of a folder whose name was worked out before.

    Args:
        found: what the spec in it says, where that was read already.
    """
    # First, and before the lock: a lock in a victim's folder is written there, too.
    folder.require_no_links()
    # Less than parsing it, or writing it anew: a sweep looks at each of its thousands of runs.
    if found is not None and _as_json(found.as_written()) == _as_json(spec.as_written()):
        return folder
    with suppress(OSError):
        if folder.spec.read_bytes() == spec.to_toml().encode():
            return folder
    try:
        kept = kept_spec(folder)
    except UserError:
        if fresh:
            return folder
        raise
    # Also with fresh: somebody else's records would be thrown away.
    if kept is not None and kept.run_key != spec.run_key:
        right = kept.folder(runs_dir)
        raise UserError(
            f"'{folder.path}' holds another run than its name says: expected {_told(spec)}, found "
            f"{_told(kept)}. Was it moved or copied? Its own place is '{right}': move it there, or "
            "remove it."
        )
    return folder


def kept_spec(folder: RunFolder) -> RunSpec | None:
    """The spec in a folder as it stands there, never resolved anew: plug-ins and defaults may have changed.

    Raises:
        UserError: it cannot be read.
    """
    facts = folder.spec_facts()
    if facts is None:
        return None
    try:
        return RunSpec.model_validate(facts.as_written())
    except ValidationError as error:
        raise UserError(f"'{folder.spec}': {explain(error, RunSpec)}") from error


def _as_json(values: Mapping[str, Any]) -> str:
    """Values in one order: 1, 1.0 and true, which Python calls equal, are different settings."""
    return json.dumps(values, sort_keys=True, default=repr)


def _told(spec: RunSpec) -> str:
    return f"{spec.task.name}, {spec.strategy.name}, seed {spec.seed} (key {spec.run_key})"


@contextmanager
def held(folder: RunFolder) -> Iterator[None]:
    """The run's folder, made where there is none, for this process alone."""
    with explained(folder.path, "made", "Choose another place with --runs-dir"):
        folder.path.mkdir(parents=True, exist_ok=True)
    with locked(
        folder.lock,
        0,
        busy=f"Another process is writing this run ('{folder.path}'). Wait for it, or stop it.",
        refused=lambda error: refusal(error, folder.lock, "locked"),
    ):
        yield


@contextmanager
def failure_kept(spec: RunSpec, folder: RunFolder) -> Iterator[None]:
    """Leave word in the folder when the block fails, so that the run is called failed by whoever looks.

    A new run that is refused as bad input before its first record never began: nothing is left of it.
    """
    folder.write_failure(None)
    is_new = not folder.spec.exists()
    try:
        yield
        # Once more: a sweep that found the folder busy may have left its word meanwhile.
        folder.write_failure(None)
    except PendingError:
        raise
    except Exception as error:
        told = "" if isinstance(error, UserError) else traceback.format_exc()
        refused = isinstance(error, UserError) and not isinstance(error, PluginError)
        # Whatever stops this word, the run's own error matters more.
        with suppress(OSError, UserError):
            if refused and is_new and not folder.cycles.exists():
                folder.clear()
                folder.spec.unlink(missing_ok=True)
            else:
                leave_word(spec, folder, reason_of(error), told)
        raise


def leave_word(spec: RunSpec, folder: RunFolder, reason: str, details: str) -> None:
    """Say in a run's folder why its last attempt failed, also where it had not described itself yet."""
    if not folder.spec.exists():
        write_text(folder.spec, spec.to_toml())
    folder.write_failure(reason, details)

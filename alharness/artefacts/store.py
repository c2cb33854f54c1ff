"""The artefact store: what is costly and reusable, built once and shared by all strategies and seeds.

An artefact is named by what it was made from: its key hashes its kind and its identity (task
fingerprint, network recipe, training settings, seed; never the device), so a changed setting is
another artefact and nothing is ever overwritten. It lies in ``<root>/<kind>/<key>/``: the files that
its builder wrote (tensors as safetensors) and ``meta.json`` with identity, seconds, versions and the
SHA-256 of every file. Loading verifies all of it; nothing is unpickled. So an artefact is taken to
another machine by copying its folder.

Building happens in ``<root>/<kind>/<key>.partial/`` under a file lock, and a finished folder is
renamed into place. A second run that wants the same artefact waits and then loads it; a killed
build leaves its checkpoints in the partial folder, where the next one finds them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness import __version__
from alharness.artefacts.tensors import read_tensors
from alharness.errors import DamagedError, UserError
from alharness.files import (
    PARTIAL,
    locked,
    parse_sealed,
    sha256_of,
    write_sealed,
    write_text,
)
from alharness.progress import Progress, silent

if TYPE_CHECKING:
    import torch

#: Raised when the meaning of stored files changes; old artefacts are then built anew.
FORMAT = 1

META = "meta.json"
#: Behind the name of an artefact that was found damaged and made anew.
DAMAGED = ".damaged"


#: Builds an artefact's files into the folder it gets (which may hold a killed build's checkpoints)
#: and returns what belongs into ``meta.json`` under ``details``, as plain JSON values.
Build = Callable[[Path, Progress], Mapping[str, Any]]


@dataclass(frozen=True)
class Artefact:
    """One finished artefact.

    Attributes:
        kind: ``generator``, ``autoencoder``, ...
        key: hash of kind and identity (16 hex digits).
        path: its folder.
        meta: the content of its ``meta.json``.
        cached: true when it was found ready made.
        seconds: what building it took, whenever that was, interruptions not counted.
        load_s: seconds that this call spent on it: waiting, building, verifying.
    """

    kind: str
    key: str
    path: Path
    meta: Mapping[str, Any]
    cached: bool
    seconds: float
    load_s: float

    @property
    def identity(self) -> Mapping[str, Any]:
        """What it was made from."""
        identity: Mapping[str, Any] = self.meta["identity"]
        return identity

    @property
    def details(self) -> Mapping[str, Any]:
        """What its builder reported (steps, quality, ...)."""
        details: Mapping[str, Any] = self.meta["details"]
        return details

    @property
    def size_bytes(self) -> int:
        """Bytes of its files, ``meta.json`` not counted."""
        return sum(int(entry["bytes"]) for entry in self.meta["files"].values())

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """All tensors of one of its safetensors files, on the CPU.

        Raises:
            UserError: the artefact has no such file, or it is not safetensors.
        """
        if name not in self.meta["files"]:
            held = ", ".join(self.meta["files"])
            raise UserError(f"The {self.kind} '{self.key}' holds no file '{name}', only {held}.")
        return read_tensors(self.path / name)


class ArtefactStore:
    """All artefacts under one folder; several processes may use it at once.

    The lock is the operating system's: it ends with the process that held it, however that ended.

    Args:
        root: the folder.
        pinned: by kind, the only keys that may be asked for: those that a stopped run began with.
    """

    def __init__(self, root: Path, pinned: Mapping[str, set[str]] | None = None) -> None:
        self.root = Path(root)
        self.pinned = pinned or {}

    def obtain(
        self,
        kind: str,
        identity: Mapping[str, Any],
        build: Build,
        progress: Progress = silent,
    ) -> Artefact:
        """The artefact made from ``identity``: verified and loaded, or built now.

        Args:
            kind: names the folder and is part of the key.
            identity: all that determines the content, as plain JSON values.
            build: called when there is none, or when an unfinished one lies there.

        A damaged one is set aside and built anew; ``progress`` says so.

        Raises:
            UserError: the stored artefact is of another format, or is another one than a stopped run
                began with.
        """
        start = time.perf_counter()
        key = artefact_key(kind, identity)
        # A stopped run may not go on with another generator than the one that chose its first items.
        allowed = self.pinned.get(kind, {key})
        if key not in allowed:
            raise UserError(
                f"This run was begun with the {kind} {', '.join(sorted(allowed))}; what it asks for now "
                f"is {key}, because recipes or formats changed since. Go on with the version of alharness "
                "that began the run, or start it over with --fresh."
            )
        final = self.root / kind / key
        try:
            if final.is_dir():
                return self.load(kind, key, started=start)
        except DamagedError as damage:
            progress(f"{damage} It is set aside and made anew.", 0, 1)
            with self._locked(kind, key, progress):
                self._set_aside(final)
        # Asked twice: whoever held the lock before us may have built it meanwhile.
        if not final.is_dir():
            final.parent.mkdir(parents=True, exist_ok=True)
            with self._locked(kind, key, progress):
                if not final.is_dir():
                    meta = self._build(kind, key, identity, build, progress)
                    spent = time.perf_counter() - start
                    return Artefact(kind, key, final, meta, False, float(meta["seconds"]), spent)
        return self.load(kind, key, started=start)

    def _set_aside(self, folder: Path) -> None:
        """Keep a damaged artefact beside, unless another process made it anew meanwhile."""
        with suppress(DamagedError, FileNotFoundError):
            self.load(folder.parent.name, folder.name)
            return
        # Kept, not deleted: days of training may be worth a look by hand.
        aside = folder.with_name(folder.name + DAMAGED)
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)

    def _locked(self, kind: str, key: str, progress: Progress) -> AbstractContextManager[None]:
        """Hold the artefact's lock; waiting for another process's build is shown."""
        told = f"wait for the {kind} that another run is making"
        return locked(self.root / kind / f"{key}.lock", waiting=lambda: progress(told, 0, 1))

    def _build(
        self, kind: str, key: str, identity: Mapping[str, Any], build: Build, progress: Progress
    ) -> dict[str, Any]:
        final = self.root / kind / key
        partial = final.with_name(key + PARTIAL)
        partial.mkdir(exist_ok=True)
        spent_before = _spent(partial)
        start = noted = time.perf_counter()

        def keep_time(
            stage: str, done: int, total: int, notes: Mapping[str, float] | None = None
        ) -> None:
            # So that the seconds of a killed build are counted as far as it was seen alive.
            nonlocal noted
            now = time.perf_counter()
            if now - noted > 1.0:
                write_text(partial / "spent", str(spent_before + now - start))
                noted = now
            progress(stage, done, total, notes)

        details = dict(build(partial, keep_time))
        (partial / "spent").unlink(missing_ok=True)
        meta = {
            "format": FORMAT,
            "kind": kind,
            "key": key,
            "identity": dict(identity),
            "seconds": spent_before + time.perf_counter() - start,
            "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "versions": _versions(),
            "files": _describe_files(partial),
            "details": details,
        }
        write_sealed(partial / META, meta)
        # safetensors writes files that only their owner reads; a store may be shared.
        mode = stat.S_IMODE((partial / META).stat().st_mode)
        for path in _plain_files(partial):
            path.chmod(mode)
        # The last act, and atomic: a folder with this name is whole.
        partial.rename(final)
        return meta

    def load(self, kind: str, key: str, *, started: float | None = None) -> Artefact:
        """A finished artefact, every file verified against its SHA-256.

        Raises:
            UserError: there is none, or it is damaged or foreign; the message names the file.
        """
        start = time.perf_counter() if started is None else started
        path = self.root / kind / key
        meta = _read_meta(path, kind, key)
        for name, entry in meta["files"].items():
            file = path / name
            if not file.is_file():
                raise DamagedError(
                    f"The {kind} '{key}' is damaged: '{file}' is missing. {_cure(kind, key)}"
                )
            if sha256_of(file) != entry["sha256"]:
                raise DamagedError(
                    f"The {kind} '{key}' is damaged: '{file}' does not have the SHA-256 that was "
                    f"recorded when it was made. {_cure(kind, key)}"
                )
        spent = time.perf_counter() - start
        return Artefact(kind, key, path, meta, True, float(meta["seconds"]), spent)

    def finished(self, kind: str = "*") -> list[Artefact]:
        """All finished artefacts, or those of one kind, by time of making; files are not verified."""
        found = []
        for path in sorted(self.root.glob(f"{kind}/*/{META}")):
            folder = path.parent
            if not folder.name.endswith((PARTIAL, DAMAGED)):
                meta = _read_meta(folder, folder.parent.name, folder.name)
                found.append(
                    Artefact(
                        meta["kind"], meta["key"], folder, meta, True, float(meta["seconds"]), 0.0
                    )
                )
        return sorted(found, key=lambda artefact: (artefact.kind, artefact.meta["built"]))

    def unfinished(self) -> list[Path]:
        """Folders of builds that were stopped; the next one that asks for them continues them."""
        return sorted(path for path in self.root.glob(f"*/*{PARTIAL}") if path.is_dir())

    def locate(self, prefix: str) -> tuple[str, str]:
        """Kind and key of the one artefact, finished or not, whose key starts with ``prefix``.

        Looks at names only, so that a damaged one can be named too.

        Raises:
            UserError: none or several.
        """
        folders = [
            path
            for path in self.root.glob("*/*")
            if path.is_dir() and not path.name.endswith(DAMAGED)
        ]
        held = {(path.parent.name, path.name.removesuffix(PARTIAL)) for path in folders}
        matching = sorted(found for found in held if found[1].startswith(prefix))
        if len(matching) == 1:
            return matching[0]
        if not matching:
            there = ", ".join(f"{key} ({kind})" for kind, key in sorted(held)) or "none"
            raise UserError(f"No artefact '{prefix}' in '{self.root}'. There: {there}.")
        keys = ", ".join(key for _, key in matching)
        raise UserError(f"'{prefix}' fits several artefacts: {keys}. Give more of the key.")

    def find(self, prefix: str) -> Artefact:
        """The one finished artefact whose key starts with ``prefix``; files are not verified.

        Raises:
            UserError: none or several.
        """
        kind, key = self.locate(prefix)
        meta = _read_meta(self.root / kind / key, kind, key)
        return Artefact(kind, key, self.root / kind / key, meta, True, float(meta["seconds"]), 0.0)

    def remove(self, kind: str, key: str) -> None:
        """Delete an artefact, also an unfinished one.

        Raises:
            UserError: a run is making it right now.
        """
        try:
            with locked(self.root / kind / f"{key}.lock", 0):
                for folder in (self.root / kind / key, self.root / kind / (key + PARTIAL)):
                    if folder.is_dir():
                        shutil.rmtree(folder)
        except TimeoutError:
            raise UserError(
                f"The {kind} '{key}' is being made by a run. Stop that run first."
            ) from None


def default_store_root(runs_dir: str | Path = "runs") -> Path:
    """Where artefacts lie: ``ALHARNESS_ARTEFACTS``, else ``<runs-dir>/artefacts``."""
    return Path(os.environ.get("ALHARNESS_ARTEFACTS") or Path(runs_dir) / "artefacts").expanduser()


def artefact_key(kind: str, identity: Mapping[str, Any]) -> str:
    """Hash of kind, identity and format: 16 hex digits."""
    # Sorted and without spaces: the hash of values, not of how somebody wrote them.
    text = json.dumps([FORMAT, kind, identity], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_meta(path: Path, kind: str, key: str) -> dict[str, Any]:
    """``meta.json`` of a folder, checked against the folder's name."""
    try:
        text = (path / META).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedError(
            f"There is no {kind} '{key}' in '{path.parent.parent}' ('{path / META}' is missing)."
        ) from None
    meta = _parse_meta(text, str(path / META))
    if meta["kind"] != kind or meta["key"] != key or artefact_key(kind, meta["identity"]) != key:
        raise DamagedError(
            f"'{path}' is foreign: its {META} describes {meta['kind']} '{meta['key']}', or its "
            f"identity does not give that key. Remove the folder; it will be made anew."
        )
    return meta


def _parse_meta(text: bytes, where: str) -> dict[str, Any]:
    meta = parse_sealed(text, where, _REMOVE)
    try:
        whole = {"format", "kind", "key", "identity", "seconds", "files", "details"} <= set(meta)
    except TypeError:
        whole = False
    if not whole:
        raise DamagedError(f"'{where}' is damaged: it is not an artefact's {META}. {_REMOVE}")
    if meta["format"] != FORMAT:
        raise UserError(
            f"'{where}' has format {meta['format']}, this version reads {FORMAT}. "
            "Use the version that made it, or make it anew."
        )
    return meta


_REMOVE = "Remove the artefact ('alharness artefacts remove KEY'), or copy the file again."


def _describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        for path in _plain_files(folder)
    }


def _plain_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            raise AssertionError(f"a builder left '{path.name}', which is not a plain file")
        if path.name != META:
            yield path


def _versions() -> dict[str, str]:
    import torch

    return {
        "alharness": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _spent(partial: Path) -> float:
    try:
        return float((partial / "spent").read_text())
    except (FileNotFoundError, ValueError):
        return 0.0


def _cure(kind: str, key: str) -> str:
    return f"Remove it ('alharness artefacts remove {key}') and it will be made anew."

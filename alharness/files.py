"""Files: the one way in which something is written, and TOML.

A file is written beside its name, brought to the disk and renamed, so that a reader sees the old one
or the new one and a power cut leaves one of them. A line that is appended is brought to the disk
before anything goes on. What the system refuses is told in one line with the file's name.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alharness.errors import DamagedError, UserError

#: No person nests brackets so.
TOO_DEEP = "brackets are nested too deeply"

#: What a file or folder is called until it is whole.
PARTIAL = ".partial"

#: How several users write into one folder; said where the system lets one of them not write.
SHARING = (
    "a group shares a folder after 'chmod -R g+rwX DIR', 'chmod g+s' for DIR and the folders in it, and "
    "'umask 002' for everybody"
)

_CURES = {
    errno.ENOSPC: "Free some space and give the same command again",
    errno.EDQUOT: "Free some space and give the same command again",
    errno.EFBIG: "Lift the limit on file sizes and give the same command again",
    errno.EACCES: "Ask its owner, or choose another place",
    errno.EPERM: "Ask its owner, or choose another place",
    errno.EROFS: "Choose another place",
    errno.ENOLCK: "This file system gives no locks; choose a place on another one",
    errno.ENAMETOOLONG: "Choose a place or a name that is shorter",
    errno.ENOENT: "Was its folder removed meanwhile? Give the same command again",
}


@contextmanager
def explained(path: Path, doing: str = "written", cure: str = "") -> Iterator[None]:
    """Turn what the system refuses in the ``with`` block into one line about ``path``.

    Args:
        doing: what was to be done with it.
        cure: what the user can do; by default what fits the system's reason.

    Raises:
        UserError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise refusal(error, path, doing, cure) from error


def refusal(error: OSError, path: Path | str, doing: str = "written", cure: str = "") -> UserError:
    """What the system refused, as one line with a cure."""
    cure = cure or _CURES.get(
        error.errno or 0, "Look at the place, then give the same command again"
    )
    if error.errno in (errno.EACCES, errno.EPERM) and doing != "read":
        cure = f"{cure} ({SHARING})"
    why = error.strerror or str(error) or type(error).__name__
    return UserError(f"'{path}' cannot be {doing}: {why}. {cure}; what is on the disk stays whole.")


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; on the disk and renamed when the block ends.

    Folders are made. When the block fails, nothing is left and the old file stays.

    Raises:
        UserError: the system refuses to write there.
    """
    partial = path.with_name(path.name + PARTIAL)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            to_disk(partial)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def locked(
    path: Path,
    wait_s: float = -1.0,
    *,
    busy: str = "",
    waiting: Callable[[], object] | None = None,
    refused: Callable[[OSError], Exception] | None = None,
) -> Iterator[None]:
    """Hold a lock file. The lock is the operating system's: it ends with the process, however that ends.

    Args:
        path: the file, in a folder that exists.
        wait_s: how long to wait for another process; below 0 for ever.
        busy: the text of a UserError in place of the TimeoutError.
        waiting: called once where another process has to be waited for.
        refused: makes what is raised in place of an OSError.

    Raises:
        TimeoutError: another process holds it.
        OSError: the place cannot be written to, or its file system has no locks.
    """
    from filelock import FileLock

    lock = FileLock(path)
    # Only errors of the lock itself are translated: those of the block are none of ours.
    try:
        try:
            lock.acquire(timeout=0 if waiting is not None else wait_s)
        except TimeoutError:
            if waiting is None:
                raise
            waiting()
            lock.acquire(timeout=wait_s)
    except TimeoutError as error:  # an OSError too, so that it comes first
        raise (UserError(busy) if busy else error) from None
    except NotImplementedError as error:  # how filelock says that there is no flock
        missing = OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), str(path))
        raise (refused(missing) if refused is not None else missing) from error
    except OSError as error:
        if refused is None:
            raise
        raise refused(error) from error
    try:
        yield
    finally:
        lock.release()


def to_disk(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def copy(source: Path, path: Path) -> None:
    """Copy a file's content, beside and renamed."""
    with beside(path) as partial:
        shutil.copyfile(source, partial)


def write_text(path: Path, text: str) -> None:
    """Write a text file beside and rename. Folders are made."""
    with beside(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write JSON beside and rename."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


#: Between what a sealed file says and the checksum of it.
_SEAL = ',\n  "sha256": "'


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON beside and rename, with a checksum of all that stands before it as its last entry."""
    write_text(path, sealed_text(value))


def sealed_text(value: Mapping[str, Any]) -> str:
    """The text that ``write_sealed`` writes."""
    body = json.dumps({"sealed": True, **value}, indent=2, ensure_ascii=False).removesuffix("\n}")
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f'{body}{_SEAL}{digest}"\n}}\n'


def read_sealed(path: Path, cure: str) -> dict[str, Any]:
    """What ``write_sealed`` wrote; a file from before there were seals is read as it is.

    Args:
        path: the file, which exists.
        cure: what the reader can do about a damaged file, one sentence.

    Raises:
        DamagedError: the file is not what was written.
    """
    with explained(path, "read"):
        return parse_sealed(path.read_bytes(), str(path), cure)


def parse_sealed(content: bytes, where: str, cure: str) -> dict[str, Any]:
    """As ``read_sealed``, of a content that lies at ``where``."""
    try:
        text = content.decode()
        value: dict[str, Any] = parse_json(text)
        sealed = value.pop("sealed", False)
        digest = value.pop("sha256", None)
    except (ValueError, AttributeError, TypeError) as error:
        raise DamagedError(
            f"'{where}' is damaged: it is not the JSON that was written. {cure}"
        ) from error
    if sealed is False and digest is None and _SEAL not in text:
        return value
    body, _, tail = text.rpartition(_SEAL)
    if sealed is not True or tail != hashlib.sha256(body.encode()).hexdigest() + '"\n}\n':
        raise DamagedError(
            f"'{where}' is damaged: its checksum does not agree with what it says. {cure}"
        )
    return value


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with explained(path, "read"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_line(path: Path, line: str) -> None:
    """Append one line and wait until it is on the disk.

    Raises:
        UserError: the system refuses; what was there before is whole, a torn line is cut off.
    """
    with explained(path), path.open("ab", buffering=0) as file:
        start = file.tell()
        rest = memoryview(line.encode() + b"\n")
        try:
            # Without a buffer, whose content would reach the disk when the file is closed, after the cut.
            # A disk that fills up takes a part first; it says why when it is asked to take the rest.
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(start)
            raise


def drop_torn_line(path: Path) -> None:
    """Cut off what a kill left of an unfinished last line, before appending again."""
    if not path.exists():
        return
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        with explained(path), path.open("rb+") as file:
            file.truncate(end)
            os.fsync(file.fileno())


def parse_json(text: str | bytes) -> Any:
    """JSON from outside.

    Raises:
        ValueError: it is none, or brackets are nested without end.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def parse_toml(text: str) -> dict[str, Any]:
    """TOML from outside.

    Raises:
        tomllib.TOMLDecodeError: it is none, or brackets are nested without end.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError(TOO_DEEP) from None


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as nested plain values.

    Raises:
        UserError: no such file, not UTF-8, or not TOML.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"The spec file '{path}' does not exist (looked in {Path.cwd()})."
        ) from None
    except IsADirectoryError:
        raise UserError(f"'{path}' is a folder; expected a TOML file.") from None
    except OSError as error:
        raise refusal(error, path, "read") from error
    # Editors of Windows mark UTF-8 at its beginning, and write UTF-16 when it is called Unicode.
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content:
        raise UserError(f"'{path}' is not UTF-8 (UTF-16?). Save it as UTF-8; TOML is nothing else.")
    try:
        return parse_toml(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"'{path}' is not UTF-8 in line {line} (a byte {content[error.start]:#04x}). Save it as "
            "UTF-8; TOML is nothing else."
        ) from error
    except tomllib.TOMLDecodeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"'{path}' is not valid TOML: {reason}.") from error


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings laid over each other; later ones win.

    ``strategy = "asal-gray"`` below ``strategy.latent_steps = 0`` is the name of what is set there.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = merged.get(key)
            if isinstance(value, Mapping):
                old = {"name": old} if isinstance(old, str) else old
                merged[key] = merge(old if isinstance(old, Mapping) else {}, value)
            else:
                merged[key] = value
    return merged


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


@contextmanager
def no_collections() -> Iterator[None]:
    """No search for circles of objects in the block, which makes many that all stay.

    Each search goes through everything that is there: for the table of 2,000 runs, 40 % of the time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()

"""A folder or a zip archive of files, seen alike; nothing in it is passed over without a word.

Light on purpose: every conversion worker imports this module afresh.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from alharness.errors import UserError

#: Files named in one error; the rest is counted.
NAMED = 5
#: No encoded image and no table is larger; what claims to be is not read into memory.
MAX_FILE_BYTES = 256 << 20
#: Folders that systems and disks keep for themselves, in any case: nobody sorted images into them.
SYSTEM = frozenset(
    {"lost+found", "system volume information", "$recycle.bin", "#recycle", "@eadir"}
)


@dataclass(frozen=True)
class Contents:
    """What lies in a tree.

    Attributes:
        files: name -> what changes when the content does (sizes, times, inode; or size and CRC).
        folders: names of all folders.
        doubled: members that stand in the archive more than once, with one content.
        hidden: members of an archive that were passed over: their names begin with a dot (what macOS adds,
            ``..`` that leads out of it).
        passed_over: folders of the system's own (``lost+found``), which are not looked into.
    """

    files: dict[str, tuple[int, ...]]
    folders: tuple[str, ...]
    doubled: int = 0
    hidden: int = 0
    passed_over: tuple[str, ...] = ()

    def digest(self, names: Sequence[str]) -> str:
        """SHA-256 (16 hex digits) of the names and their facts."""
        sha = hashlib.sha256()
        for name in names:
            # A name that is not UTF-8 keeps its bytes.
            sha.update(f"{name} {self.files[name]}\n".encode(errors="surrogateescape"))
        return sha.hexdigest()[:16]


@dataclass(frozen=True)
class FileTree:
    """A folder or a zip archive, seen alike: names are relative, with forward slashes."""

    path: Path

    @property
    def is_archive(self) -> bool:
        return self.path.is_file()

    def listing(self) -> Contents:
        """All files and folders without hidden ones and what macOS adds to archives.

        Links are followed, to files and to folders.

        Raises:
            UserError: nothing there, a truncated archive, members of one name and two contents,
                links that point nowhere or in a circle, a folder that may not be read.
        """
        if self.is_archive:
            return _archive(self.path).listing
        if not self.path.is_dir():
            raise UserError(f"Expected a folder or a zip archive at {self.path}; nothing is there.")
        return _walk(self.path)

    def names(self) -> list[str]:
        """All files, sorted."""
        return sorted(self.listing().files)

    def source(self, name: str) -> Path | bytes:
        """A file of a folder by its path, so that its head can be read alone; else its content.

        Raises:
            ValueError: larger than any image or table.
        """
        if self.is_archive:
            return self.read(name)
        refuse_large((self.path / name).stat().st_size)
        return self.path / name

    def read(self, name: str) -> bytes:
        """The content of one file (an archive checks its CRC).

        Raises:
            ValueError: larger than any image or table.
        """
        if not self.is_archive:
            return read_limited(self.path / name)
        archive = _archive(self.path)
        member = archive.members[name]
        refuse_large(member.file_size)
        return archive.file.read(member)


def refuse_large(n_bytes: int) -> None:
    """Refuse what is too large to be an image or a table, before it is read.

    Raises:
        ValueError: in words.
    """
    if n_bytes > MAX_FILE_BYTES:
        raise ValueError(f"{n_bytes:,} bytes; at most {MAX_FILE_BYTES:,} are read")


def read_limited(path: Path) -> bytes:
    """The content of a file of reasonable size.

    Raises:
        ValueError: it is too large.
    """
    refuse_large(path.stat().st_size)
    return path.read_bytes()


def shown(name: str) -> str:
    """A name that any terminal can show: bytes that are not UTF-8 as ``\\udce9``."""
    return name.encode("utf-8", "backslashreplace").decode()


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(shown(name) for name in names[:NAMED]) + more


def in_words(error: Exception) -> str:
    """What another library complains of, on one line."""
    return shown(" ".join(str(error).split())) or type(error).__name__


def file_facts(status: os.stat_result) -> tuple[int, ...]:
    """What changes when a file's content does: programs can set the times back, but not ctime."""
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@dataclass(frozen=True)
class _Archive:
    file: zipfile.ZipFile
    members: dict[str, zipfile.ZipInfo]
    listing: Contents


def _archive(path: Path) -> _Archive:
    return _indexed(path, file_facts(path.stat()))


@cache  # a zip's directory is read once in a process, not per image
def _indexed(path: Path, facts: tuple[int, ...]) -> _Archive:
    try:
        file = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be opened as a zip archive ({in_words(error)}): truncated, or "
            "something else. Fetch it again."
        ) from error
    members: dict[str, zipfile.ZipInfo] = {}
    folders = set()
    passed: set[str] = set()
    doubled, hidden, different = 0, 0, []
    for info in file.infolist():
        name = info.filename.replace("\\", "/")  # as some programs of Windows write them
        if _hidden(name):
            hidden += not name.endswith("/")
            continue
        if own := [part for part in PurePosixPath(name).parts if part.lower() in SYSTEM]:
            passed.add(own[0])
            continue
        if name.endswith("/"):
            folders.add(name.rstrip("/"))
            continue
        # Many archives have no entries for folders: they follow from the names of the files.
        folders.update(str(parent) for parent in PurePosixPath(name).parents[:-1])
        # The first one stands; by its name a zip file gives the last, so members are read by their entry.
        before = members.setdefault(name, info)
        if before is not info:
            doubled += 1
            if (before.CRC, before.file_size) != (info.CRC, info.file_size):
                different.append(name)
    if different:
        raise UserError(
            f"{path} holds two different files under one name: {listed(different)}. Unpack it, keep "
            "the right ones and use the folder."
        )
    files: dict[str, tuple[int, ...]] = {
        name: (info.file_size, info.CRC) for name, info in members.items()
    }
    contents = Contents(files, tuple(sorted(folders)), doubled, hidden, tuple(sorted(passed)))
    return _Archive(file, members, contents)


def _walk(root: Path) -> Contents:
    files: dict[str, tuple[int, ...]] = {}
    folders: list[str] = []
    nowhere: list[str] = []
    passed: list[str] = []

    def visit(folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        for entry in os.scandir(folder):
            name = prefix + entry.name
            if _hidden(name):
                continue
            if entry.name.lower() in SYSTEM:  # before it is looked at: often only root may
                passed.append(name)
                continue
            try:
                status = entry.stat()
            except OSError:  # no such file, or links in a circle
                nowhere.append(name)
                continue
            if stat.S_ISDIR(status.st_mode):
                # By the place and not the name: a link may lead back under another one.
                place = (status.st_dev, status.st_ino)
                if place in above:
                    raise UserError(
                        f"{root}/{shown(name)} is a link to a folder that it lies in. Remove it."
                    )
                folders.append(name)
                visit(entry.path, f"{name}/", above | {place})
            elif stat.S_ISREG(status.st_mode):
                files[name] = file_facts(status)

    try:
        status = root.stat()
        visit(str(root), "", frozenset({(status.st_dev, status.st_ino)}))
    except OSError as error:
        raise UserError(
            f"{shown(str(error.filename or root))} cannot be looked into ({error.strerror}). Make it "
            "readable or remove it."
        ) from error
    if nowhere:
        raise UserError(
            f"{len(nowhere):,} links in {root} point nowhere: {listed(sorted(nowhere))}. Fetch what "
            "they stand for (git annex get, dvc pull, git lfs pull) or remove them."
        )
    return Contents(files, tuple(sorted(folders)), passed_over=tuple(sorted(passed)))


def _hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)

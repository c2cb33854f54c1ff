"""Records as they are published: spec, facts and cycles of finished runs in one compressed file.

An archive (``.tar.xz``) holds ``TASK/STRATEGY/KEY/{spec.toml,env.json,cycles.jsonl}``. It proves itself as
the folders do: lines are chained, and the last one holds the digests of the other files. What was asked
(``queries.npz``) is not in it; ``left-out.txt`` of each run says so, and nothing that compares needs it.
The same runs give the same bytes.
"""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from alharness.errors import UserError
from alharness.files import beside, explained
from alharness.records.proof import LEFT_OUT
from alharness.records.reader import read_runs
from alharness.records.runs import Run

#: How a file of published records ends.
ENDING = ".tar.xz"

#: Bytes that an archive may unpack to: a million cycles are about 2 GB.
MOST_BYTES = 4 << 30


def publish(runs: Sequence[Run], path: Path) -> int:
    """Write the records of finished runs into one file.

    Args:
        runs: any; those that are not finished are left out.
        path: ends in ``.tar.xz``.

    Returns:
        how many runs it holds.

    Raises:
        UserError: another ending, nothing that is finished, or two runs that would have one place.
    """
    if not path.name.endswith(ENDING):
        raise UserError(f"Published records are one {ENDING} file; found '{path}'.")
    finished = [run for run in runs if run.finished]
    if not finished:
        raise UserError(f"None of the {len(runs)} runs is finished. Publish what has ended.")
    places = {tuple(run.folder.parts[-3:]): run.folder for run in finished}
    if len(places) < len(finished):
        raise UserError("Some of these runs are copies of one another. Name one folder of runs.")
    with (
        beside(path) as partial,
        lzma.open(partial, "wb", preset=9) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for parts, folder in sorted(places.items()):
            for name in ("spec.toml", "env.json", "cycles.jsonl"):
                _add(archive, "/".join((*parts, name)), (folder / name).read_bytes())
            _add(archive, "/".join((*parts, LEFT_OUT)), b"queries.npz\n")
    return len(finished)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    # Neither owner nor date: who made it and when is no part of what was measured.
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A folder of runs with what an archive holds, for as long as the ``with`` block lasts.

    Raises:
        UserError: it is not there, is no such file, is cut off, or holds something else.
    """
    if not path.is_file():
        raise UserError(f"There is no file '{path}' of published records (looked in {Path.cwd()}).")
    with TemporaryDirectory(prefix="alharness-") as folder, explained(path, "read"):
        try:
            with tarfile.open(path, "r:xz") as archive:
                members = archive.getmembers()
                if sum(member.size for member in members) > MOST_BYTES:
                    raise UserError(f"'{path}' unpacks to more than {MOST_BYTES >> 30} GB.")
                # 'data' refuses links, devices and paths that lead elsewhere.
                archive.extractall(folder, members=members, filter="data")
        except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
            raise UserError(
                f"'{path}' is not a file of published records, or is damaged ({error}). Get it again."
            ) from error
        yield Path(folder)


def read_published(path: Path) -> list[Run]:
    """All runs of an archive; each is called by the archive and its place in it.

    Raises:
        UserError: as ``unpacked``, or no run in it can be read.
    """
    with unpacked(path) as place:
        try:
            runs = read_runs(place)
        except UserError as error:
            # What is unpacked is gone when somebody reads this: nobody is sent to look there.
            raise UserError(str(error).replace(str(place), str(path))) from error
        return [
            replace(
                run,
                folder=path / run.folder.relative_to(place),
                damage=run.damage and run.damage.replace(str(place), str(path)),
            )
            for run in runs
        ]


def archives_of(path: Path) -> list[Path]:
    """The files of published records that a path means: itself, or all below a folder.

    Raises:
        UserError: there are none.
    """
    if path.name.endswith(ENDING):
        return [path]
    found = sorted(path.rglob(f"*{ENDING}")) if path.is_dir() else []
    if not found:
        raise UserError(
            f"There are no published records ('*{ENDING}') in '{path}' (looked in {Path.cwd()}). They lie "
            "in a checkout of the repository below benchmarks/results; an installation does not hold them."
        )
    return found

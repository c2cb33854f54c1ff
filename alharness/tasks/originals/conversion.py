"""Conversion of a data set into an image cache: in parallel, with progress, continued after a stop.

The images file is allocated whole before the first image is converted (a full disk shows at once),
then filled chunk by chunk. A chunk counts as done when its digest stands in the journal, which is
written after the chunk has reached the disk; a process that was killed therefore continues after
its last whole chunk. When all are done the folder is renamed to its place.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from alharness.errors import UserError
from alharness.files import locked as held
from alharness.files import parse_json, to_disk
from alharness.lazily import numpy as np
from alharness.progress import Progress, silent
from alharness.tasks.originals.cache import (
    CONTENTS,
    IMAGES,
    LABELS,
    META,
    STAMPS,
    VERSION,
    CacheDamagedError,
    CacheMissingError,
    ImageCache,
    chunk_digest,
    content_digests,
    page,
    whole_digest,
)
from alharness.tasks.originals.tree import file_facts

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Bytes of converted images per chunk: what one worker holds, and what a stop may cost.
CHUNK_BYTES = 8 << 20
#: Below this many images starting workers costs more than it saves.
PARALLEL_FROM = 2000
JOURNAL = "journal.jsonl"
#: The note under which it is said that a damaged cache was built anew.
REBUILT = "rebuilt"

#: Converted images ``start .. stop-1``, uint8 ``[stop - start, C, H, W]``. Must be picklable when the
#: plan is parallel: workers are fresh processes, because a fork of a process with threads may hang.
Reader = Callable[[int, int], "NDArray[np.uint8]"]


@dataclass(frozen=True)
class Conversion:
    """What to convert.

    Attributes:
        shape: ``(N, C, H, W)`` of the images.
        read: gives converted images by position.
        labels: integers ``[N]`` or ``[N, A]``.
        label_names: names of the classes or attributes.
        splits: items per split; splits lie one after the other in this order.
        origin: what was read: file name to digest, or whatever identifies the source.
        notes: facts for the record (crop, source, licence).
        pixel_max: the uint8 value that means 1.0.
        parallel: whether several processes help.
        standing: ``complete``: the data set as it is known; ``imported``: whole classes of it from
            image files; ``partial``: fewer items, or other ones, as the user allowed.
    """

    shape: tuple[int, int, int, int]
    read: Reader
    labels: NDArray[Any]
    label_names: tuple[str, ...]
    splits: Mapping[str, int]
    origin: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)
    pixel_max: int = 255
    parallel: bool = False
    standing: str = "complete"

    def identity(self) -> str:
        """What a half-finished conversion must agree with to be continued."""
        facts = [VERSION, self.shape, list(self.splits.items()), sorted(self.origin.items())]
        facts += [sorted(self.notes.items()), self.label_names, self.standing]
        sha = hashlib.sha256(json.dumps(facts).encode())
        sha.update(np.ascontiguousarray(self.labels).data)
        return sha.hexdigest()

    @property
    def chunk(self) -> int:
        """Images per chunk."""
        return max(1, CHUNK_BYTES // math.prod(self.shape[1:]))


def obtain_cache(
    path: Path,
    make_plan: Callable[[], Conversion],
    progress: Progress = silent,
    *,
    accept: Callable[[ImageCache], bool] = lambda cache: True,
) -> ImageCache:
    """The cache in folder ``path``, converted now if it is not there or damaged.

    Args:
        path: where the cache lies or shall lie.
        make_plan: looks at the originals; called only when there is something to convert.
        progress: called with the number of images done.
        accept: whether a whole cache that is there will do; one that will not stays until the new
            one is whole.

    Raises:
        UserError: from ``make_plan`` or the reader (bad originals), no permission, a full disk.
    """

    def present() -> ImageCache | CacheDamagedError | None:
        try:
            cache = ImageCache.open(path, progress)
        except CacheMissingError:
            return None
        except CacheDamagedError as error:
            return error
        return cache if accept(cache) else None

    found = present()
    if isinstance(found, ImageCache):
        return found
    with locked(path):
        found = present()  # a second process has waited and finds what the first one made
        if isinstance(found, ImageCache):
            return found
        damaged = [found] if found else []
        with building_anew(damaged, progress):
            plan = make_plan()
        return noting(damaged, convert(path, plan, progress))


@contextmanager
def building_anew(damaged: Sequence[CacheDamagedError], progress: Progress) -> Iterator[None]:
    """Say that damaged caches are built anew, or that they cannot be, while originals are looked at.

    Raises:
        UserError: originals missing or bad: in one line with the damaged file's name.
    """
    for error in damaged:
        progress(f"{error.file} is damaged: built anew", 0, 1)
    try:
        yield
    except UserError as error:
        if damaged:
            raise UserError(f"{damaged[0]} Here that was not possible: {error}") from error
        raise


def noting(damaged: Sequence[CacheDamagedError], cache: ImageCache) -> ImageCache:
    """The cache, whose notes tell this once that a damaged one had to be built anew."""
    if not damaged:
        return cache
    said = f"{damaged[0].file} was damaged: built anew from the originals"
    return replace(cache, meta={**cache.meta, "notes": {**cache.meta["notes"], REBUILT: said}})


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time builds the cache ``path``; others wait.

    Raises:
        UserError: the place cannot be written to, or locks do not work there.
    """
    with ExitStack() as stack:
        discarded = _discarded(path)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(path.with_name(path.name + ".lock")))
            if discarded.exists() and not path.exists():  # a stop between two renames
                discarded.rename(path)
        yield


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the file system while writing below ``path``, as errors that a user can mend."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason = "there is no space left (or the file may not grow so large)"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = "writing there is not allowed"
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            reason = "a file stands where a folder should be"
        elif error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            reason = "the file system has no locks (flock)"
        elif error.errno == errno.ENAMETOOLONG:
            reason = "the name is too long"
        else:
            raise
        raise UserError(
            f"Cannot write the image cache {path}: {reason}. Make room or choose another place with "
            "the environment variable ALHARNESS_CACHE; what is already converted is kept."
        ) from error


def convert(
    path: Path, plan: Conversion, progress: Progress, workers: int | None = None
) -> ImageCache:
    """Convert into the folder ``path``, which is locked: fill a partial folder, then rename it.

    Raises:
        UserError: bad originals, no permission, a full disk.
    """
    with writing(path):
        _convert(path, plan, progress, workers)
    return ImageCache.open(path, progress)


def _convert(path: Path, plan: Conversion, progress: Progress, workers: int | None) -> None:
    started = time.perf_counter()
    partial = path.with_name(path.name + ".partial")
    chunks = _begin_or_continue(partial, plan)
    n, step = plan.shape[0], plan.chunk
    todo = [number for number in range(math.ceil(n / step)) if number not in chunks]
    if not plan.parallel or n < PARALLEL_FROM:
        workers = 1
    n_workers = min(workers or os.cpu_count() or 1, max(1, len(todo)))
    stage = f"convert {path.name}"
    done = sum(_length(number, step, n) for number in chunks)
    progress(stage, done, n)
    with (partial / JOURNAL).open("a") as journal:
        for number, chunk in _converted(partial / IMAGES, plan, todo, n_workers):
            journal.write(json.dumps([number, *chunk]) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
            chunks[number] = chunk
            done += _length(number, step, n)
            progress(stage, done, n)
    # In the order of the images, whichever process was done first: the digest is of the whole.
    ordered = [chunks[number].digest for number in sorted(chunks)]
    contents = "".join(chunks[number].contents for number in sorted(chunks))
    np.save(partial / LABELS, plan.labels, allow_pickle=False)
    np.save(partial / CONTENTS, np.frombuffer(bytes.fromhex(contents), np.uint64))
    stops = np.cumsum(list(plan.splits.values())).tolist()
    facts = {
        "version": VERSION,
        "shape": plan.shape,
        "splits": {
            name: [stop - size, stop]
            for (name, size), stop in zip(plan.splits.items(), stops, strict=True)
        },
        "label_names": plan.label_names,
        "pixel_max": plan.pixel_max,
        "standing": plan.standing,
        "chunk": step,
        "chunk_digests": ordered,
        "files": {name: _sha256(partial / name) for name in (LABELS, CONTENTS)},
        "digest": whole_digest(ordered, plan.labels),
        "origin": dict(plan.origin),
        "notes": dict(plan.notes),
        "seconds": round(time.perf_counter() - started, 3),
    }
    (partial / META).write_text(page(facts), encoding="ascii")
    # On the disk before the folder gets its name: one that is there is whole.
    for name in (LABELS, CONTENTS, META):
        to_disk(partial / name)
    status = (partial / IMAGES).stat()
    (partial / STAMPS).write_text(json.dumps({"images": file_facts(status)}))
    (partial / JOURNAL).unlink()
    if path.exists():  # an older version, a damaged one, or one that is being rebuilt
        discarded = _discarded(path)
        shutil.rmtree(discarded, ignore_errors=True)
        path.rename(discarded)
        partial.rename(path)
        shutil.rmtree(discarded)
    else:
        partial.rename(path)


def _discarded(path: Path) -> Path:
    return path.with_name(path.name + ".discarded")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Chunk(NamedTuple):
    """What is known of a converted chunk: its digest, and the digests of its images in hex."""

    digest: str
    contents: str


def _length(number: int, step: int, n: int) -> int:
    return min((number + 1) * step, n) - number * step


def _begin_or_continue(partial: Path, plan: Conversion) -> dict[int, _Chunk]:
    """The chunks that an earlier, stopped conversion of the same plan finished."""
    journal, images = partial / JOURNAL, partial / IMAGES
    head = json.dumps({"identity": plan.identity()})
    # The same plan and a file of full size: what the journal says of its chunks holds.
    with suppress(OSError, ValueError, TypeError):
        lines = journal.read_text().splitlines()
        if (
            lines
            and lines[0] == head
            and _offset(images) + math.prod(plan.shape) == images.stat().st_size
        ):
            entries = [_entry(line) for line in lines[1:]]
            return dict(entry for entry in entries if entry is not None)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    np.lib.format.open_memmap(images, "w+", np.uint8, plan.shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        # All of it is reserved now, so that lack of space shows before hours of work.
        with images.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, images.stat().st_size)
    journal.write_text(head + "\n")
    return {}


def _entry(line: str) -> tuple[int, _Chunk] | None:
    """One journal line; None for a last line that was cut off by the stop."""
    try:
        number, digest, contents = parse_json(line)
    except ValueError:
        return None
    return int(number), _Chunk(str(digest), str(contents))


def _offset(images: Path) -> int:
    """Where the first image begins in the file."""
    return cast(int, np.load(images, mmap_mode="r").offset)


def _converted(
    images: Path, plan: Conversion, todo: list[int], n_workers: int
) -> Iterator[tuple[int, _Chunk]]:
    """Convert chunks; yields (number, chunk) of each when it is on the disk."""
    job = _Job(images, plan.read, plan.shape, plan.chunk, _offset(images))
    if n_workers <= 1:
        for number in todo:
            yield number, job(number)
        return
    context = multiprocessing.get_context("spawn")
    with _without_main():
        executor = ProcessPoolExecutor(n_workers, context, _start_worker, (job,))
        try:
            waiting: set[Future[tuple[int, _Chunk]]] = set()
            queue = iter(todo)
            while True:
                # A few chunks ahead keep all workers busy without queueing the whole data set.
                for number in queue:
                    waiting.add(executor.submit(_work, number))
                    if len(waiting) >= 2 * n_workers:
                        break
                if not waiting:
                    return
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "A conversion process was killed (out of memory?). The same command continues after "
                "the last whole chunk; --workers 1 needs the least memory."
            ) from error
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes that are started inside know nothing of the program's main module.

    They would run it first: a script that converts without ``if __name__ == "__main__"`` would begin again
    in each of them. What they are given to do is the harness's own.
    """
    main = sys.modules["__main__"]
    hidden = [name for name in ("__file__", "__spec__") if name in vars(main)]
    kept: dict[str, object] = {name: vars(main).pop(name) for name in hidden}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(kept)


@dataclass(frozen=True)
class _Job:
    """Converts one chunk and writes it in its place."""

    images: Path
    read: Reader
    shape: tuple[int, int, int, int]
    chunk: int
    offset: int

    def __call__(self, number: int) -> _Chunk:
        start = number * self.chunk
        stop = min(start + self.chunk, self.shape[0])
        converted = np.ascontiguousarray(self.read(start, stop))
        expected = (stop - start, *self.shape[1:])
        if converted.shape != expected or converted.dtype != np.uint8:
            raise ValueError(
                f"reader gave {converted.dtype} {converted.shape}, not uint8 {expected}"
            )
        position = self.offset + start * math.prod(self.shape[1:])
        # Written, not mapped: a full disk is then an error and not a killed process.
        with self.images.open("r+b") as file:
            file.seek(position)
            file.write(converted.data)
            file.flush()
            os.fsync(file.fileno())
        return _Chunk(chunk_digest(converted), content_digests(converted).tobytes().hex())


_job: _Job | None = None


def _start_worker(job: _Job) -> None:
    global _job
    _job = job
    parent = multiprocessing.parent_process()
    if parent is not None:  # a killed parent must not leave workers behind
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _work(number: int) -> tuple[int, _Chunk]:
    return number, cast(_Job, _job)(number)

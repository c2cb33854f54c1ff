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
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from alharness.errors import UserError
from alharness.progress import Progress, silent
from alharness.tasks.originals.cache import (
    IMAGES,
    LABELS,
    META,
    VERSION,
    CacheMissingError,
    ImageCache,
    chunk_digest,
    whole_digest,
)

#: Bytes of converted images per chunk: what one worker holds, and what a stop may cost.
CHUNK_BYTES = 8 << 20
#: Below this many images starting workers costs more than it saves.
PARALLEL_FROM = 2000
JOURNAL = "journal.jsonl"

#: Converted images ``start .. stop-1``, uint8 ``[stop - start, C, H, W]``. Must be picklable when the
#: plan is parallel: workers are fresh processes, because a fork of a process with threads may hang.
Reader = Callable[[int, int], NDArray[np.uint8]]


@dataclass(frozen=True)
class Plan:
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
        partial: fewer items than the official data set has, as the user allowed.
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
    partial: bool = False

    def identity(self) -> str:
        """What a half-finished conversion must agree with to be continued."""
        facts = [VERSION, self.shape, list(self.splits.items()), sorted(self.origin.items())]
        facts += [sorted(self.notes.items()), self.label_names, self.partial]
        sha = hashlib.sha256(json.dumps(facts).encode())
        sha.update(np.ascontiguousarray(self.labels).data)
        return sha.hexdigest()

    @property
    def chunk(self) -> int:
        """Images per chunk."""
        return max(1, CHUNK_BYTES // math.prod(self.shape[1:]))


def obtain_cache(
    path: Path,
    make_plan: Callable[[], Plan],
    progress: Progress = silent,
    *,
    workers: int | None = None,
    rebuild: bool = False,
) -> ImageCache:
    """The cache in folder ``path``, converted now if it is not there.

    Args:
        path: where the cache lies or shall lie.
        make_plan: looks at the originals; called only when there is something to convert.
        progress: called with the number of images done.
        workers: processes; by default one per core, and none for few images.
        rebuild: convert although there is a cache. A whole cache stays until the new one is whole.

    Raises:
        UserError: from ``make_plan`` or the reader (bad originals), no permission, a full disk.
    """
    if not rebuild:
        with suppress(CacheMissingError):
            return ImageCache.open(path)
    lock = FileLock(f"{path}.lock")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()  # a second process waits here and then finds what the first one made
    try:
        if not rebuild:
            with suppress(CacheMissingError):
                return ImageCache.open(path)
        plan = make_plan()
        with writing(path):
            _convert(path, plan, progress, workers)
    finally:
        lock.release()
    return ImageCache.open(path)


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
        else:
            raise
        raise UserError(
            f"Cannot write the image cache {path}: {reason}. Make room or choose another place with "
            "the environment variable ALHARNESS_CACHE; what is already converted is kept."
        ) from error


def _convert(path: Path, plan: Plan, progress: Progress, workers: int | None) -> None:
    """Fill the partial folder, then rename it."""
    started = time.perf_counter()
    partial = path.with_name(path.name + ".partial")
    digests = _begin_or_continue(partial, plan)
    n, step = plan.shape[0], plan.chunk
    todo = [number for number in range(math.ceil(n / step)) if number not in digests]
    if not plan.parallel or n < PARALLEL_FROM:
        workers = 1
    n_workers = min(workers or os.cpu_count() or 1, max(1, len(todo)))
    stage = f"convert {path.name}"
    done = sum(_length(number, step, n) for number in digests)
    progress(stage, done, n)
    with (partial / JOURNAL).open("a") as journal:
        for number, digest in _converted(partial / IMAGES, plan, todo, n_workers):
            journal.write(json.dumps([number, digest]) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
            digests[number] = digest
            done += _length(number, step, n)
            progress(stage, done, n)
    ordered = [digests[number] for number in sorted(digests)]
    np.save(partial / LABELS, plan.labels, allow_pickle=False)
    stops = np.cumsum(list(plan.splits.values())).tolist()
    meta = {
        "version": VERSION,
        "shape": plan.shape,
        "splits": {
            name: [stop - size, stop]
            for (name, size), stop in zip(plan.splits.items(), stops, strict=True)
        },
        "label_names": plan.label_names,
        "pixel_max": plan.pixel_max,
        "partial": plan.partial,
        "chunk": step,
        "chunk_digests": ordered,
        "digest": whole_digest(ordered, plan.labels),
        "origin": dict(plan.origin),
        "notes": dict(plan.notes),
        "seconds": round(time.perf_counter() - started, 3),
    }
    (partial / META).write_text(json.dumps(meta, indent=1))
    (partial / JOURNAL).unlink()
    if path.exists():  # an older version, or one that is being rebuilt
        discarded = path.with_name(path.name + ".old")
        shutil.rmtree(discarded, ignore_errors=True)
        path.rename(discarded)
        partial.rename(path)
        shutil.rmtree(discarded)
    else:
        partial.rename(path)


def _length(number: int, step: int, n: int) -> int:
    return min((number + 1) * step, n) - number * step


def _begin_or_continue(partial: Path, plan: Plan) -> dict[int, str]:
    """Digests of the chunks that an earlier, stopped conversion of the same plan finished."""
    journal, images = partial / JOURNAL, partial / IMAGES
    head = json.dumps({"identity": plan.identity()})
    size = _header_bytes(plan) + math.prod(plan.shape)
    with suppress(OSError, ValueError, TypeError):
        lines = journal.read_text().splitlines()
        if lines and lines[0] == head and images.stat().st_size == size:
            entries = [_entry(line) for line in lines[1:]]
            return dict(entry for entry in entries if entry is not None)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with images.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, _header(plan))
        file.flush()
        _allocate(file.fileno(), size)
    journal.write_text(head + "\n")
    return {}


def _entry(line: str) -> tuple[int, str] | None:
    """One journal line; None for a last line that was cut off by the stop."""
    try:
        number, digest = json.loads(line)
    except ValueError:
        return None
    return int(number), str(digest)


def _allocate(descriptor: int, size: int) -> None:
    """Reserve the whole file, so that lack of space shows before hours of work."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS
        os.ftruncate(descriptor, size)


def _header(plan: Plan) -> dict[str, Any]:
    return {"descr": "|u1", "fortran_order": False, "shape": plan.shape}


def _header_bytes(plan: Plan) -> int:
    from io import BytesIO

    buffer = BytesIO()
    np.lib.format.write_array_header_1_0(buffer, _header(plan))
    return buffer.tell()


def _converted(
    images: Path, plan: Plan, todo: list[int], n_workers: int
) -> Iterator[tuple[int, str]]:
    """Convert chunks; yields (number, digest) of each when it is on the disk."""
    job = _Job(images, plan.read, plan.shape, plan.chunk, _header_bytes(plan))
    if n_workers <= 1:
        for number in todo:
            yield number, job(number)
        return
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(n_workers, context, _start_worker, (job,))
    try:
        waiting: set[Future[tuple[int, str]]] = set()
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


@dataclass(frozen=True)
class _Job:
    """Converts one chunk and writes it in its place."""

    images: Path
    read: Reader
    shape: tuple[int, int, int, int]
    chunk: int
    offset: int

    def __call__(self, number: int) -> str:
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
        return chunk_digest(converted)


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


def _work(number: int) -> tuple[int, str]:
    return number, cast(_Job, _job)(number)

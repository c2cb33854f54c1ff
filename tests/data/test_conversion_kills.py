"""A conversion that is killed at any moment: the cache is the old one or the new one, never half.

The campaign with its full numbers: ``pytest tests/data/test_conversion_kills.py -m slow``.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import pytest

from alharness.errors import UserError
from alharness.tasks.originals.conversion import Conversion, obtain_cache

#: Converts again and again, so that a kill meets every step: reading, the journal, the renames.
CODE = """
import sys
from pathlib import Path
import numpy as np
from alharness.tasks.originals import conversion
conversion.CHUNK_BYTES = 64 * 4
pixels = np.random.default_rng(5).integers(0, 256, (40, 1, 8, 8)).astype(np.uint8)
plan = conversion.Conversion(
    pixels.shape, lambda a, b: pixels[a:b], np.arange(40) % 2, ("a", "b"), {"pool": 40}, {}
)
print("begun", flush=True)
while True:
    conversion.obtain_cache(Path(sys.argv[1]), lambda: plan, accept=lambda cache: False)
    print("whole", flush=True)
"""


def gone() -> Conversion:
    raise UserError("The originals are gone.")


@pytest.mark.timeout(1800)  # for the campaign
@pytest.mark.parametrize("times", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_a_cache_that_was_whole_is_whole_after_every_kill(times: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "cache"
    digests = set()
    for _ in range(times):
        command = [sys.executable, "-c", CODE, str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        if not digests:
            assert process.stdout.readline() == "whole\n"
        time.sleep(float(rng.uniform(0, 0.4)))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        # Found without the originals: it was there before, so it is there now.
        cache = obtain_cache(path, gone)
        cache.verify()
        digests.add(cache.digest)
    assert len(digests) == 1


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (NotImplementedError("no flock"), OSError(errno.ENOLCK, "No locks available")):

        def refuses(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(filelock.FileLock, "acquire", refuses)
        with pytest.raises(UserError, match=r"has no locks \(flock\).*ALHARNESS_CACHE"):
            obtain_cache(tmp_path / "cache", gone)

"""A plain script, as README has it: without a guard around what it does, whatever processes are started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SCRIPT = """
import os
import alharness
from alharness.tasks.originals import conversion
conversion.CHUNK_BYTES = 3000  # as if there were many pictures
conversion.PARALLEL_FROM = 1
os.cpu_count = lambda: 2
print("begins", flush=True)
found = alharness.run(
    "random", "folder:pictures", runs_dir="runs", tracking=False, budget=20, query_size=10,
    initial_size=10, learner={"min_steps": 10, "epochs": 0},
)
print("cycles", len(found.records))
"""


def test_a_script_without_a_guard_converts_a_folder_of_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, n in (("train", 30), ("test", 10)):
        for name in ("a", "b"):
            folder = tmp_path / "pictures" / part / name
            folder.mkdir(parents=True)
            for number in range(n):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "ALHARNESS_CACHE": str(tmp_path / "cache")},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["begins", "cycles 2"], "it ran once"

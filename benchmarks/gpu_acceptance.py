"""Whether alharness does on a GPU what it promises: one command, about twenty minutes on an H100.

    python benchmarks/gpu_acceptance.py --out DIR [--stage tests|speed|runs] [--dry]

*tests*: arithmetic and equality (twice the same, stopped and continued, captured and eager, CPU and GPU).
*speed*: every figure against its target. *runs*: whole trainings, runs and claims. Each stage ends within
nine minutes: what does not fit any more is listed as not measured, with the reason, and so is what this
machine (or this version of alharness) does not have. Without ``--stage`` all three follow each other.

It needs no network and no MLflow. Real MNIST is read from ``ALHARNESS_DATA`` (or the checkout's
``shared/data``); without it the figures that need it are not measured. What it needs installed: torch,
numpy, scipy, scikit-learn, pydantic, click, filelock, safetensors, tomli-w, pillow, matplotlib, rich,
platformdirs and, for the first figure of *tests* and the floors of *speed*, pytest.

DIR gets, for each stage, ``STAGE.jsonl`` (the head with hardware and versions, then one line per figure)
and ``STAGE.txt`` (the table, which is printed, too), and what pytest and the claims printed: eight files at
most. The exit code is 1 when a target was missed or something failed, 2 when the command was wrong.

``--dry`` makes the same calls at tiny sizes on the pretended device of ``tests/device``, on any machine: CI
runs it, so that the command works on the day when there is a GPU. Its times mean nothing and are not
judged; equalities are.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / part) for part in ("", "strategies", "benchmarks", "tests/device")]

STAGES = ("tests", "speed", "runs")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--stage", choices=STAGES, help="one stage only")
    parser.add_argument("--dry", action="store_true", help="tiny, on a pretended device")
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.out is None and options.worker is None:
        parser.error("--out DIR is needed")
    if "ALHARNESS_DATA" not in os.environ and (ROOT / "shared" / "data").is_dir():
        os.environ["ALHARNESS_DATA"] = str(ROOT / "shared" / "data")

    import torch

    with ExitStack() as stack:
        if options.dry:
            from pretended_cuda import pretended_cuda

            stack.enter_context(pretended_cuda())
        elif not torch.cuda.is_available():
            print(
                "gpu_acceptance: no CUDA device here. Use --dry to try the command.",
                file=sys.stderr,
            )
            return 2
        if options.worker is not None:
            from acceptance.equality import worker

            worker(Path(options.worker[0]), int(options.worker[1]))
            return 0
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alharness-gpu-")))
        os.environ.setdefault("ALHARNESS_CACHE", str(scratch / "cache"))
        stages = [options.stage] if options.stage else STAGES
        return max([_stage(name, options.out, scratch, dry=options.dry) for name in stages])


def _stage(name: str, out: Path, scratch: Path, *, dry: bool) -> int:
    from acceptance import equality, runs, speed
    from acceptance.report import Report

    figures = {"tests": equality.FIGURES, "speed": speed.FIGURES, "runs": runs.FIGURES}[name]
    report = Report(name, out, scratch, dry=dry)
    for figure in figures:
        report.measure(figure)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())

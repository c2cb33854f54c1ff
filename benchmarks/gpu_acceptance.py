"""Whether alharness does on a GPU what it promises: one command, for whoever has a card for a while.

    python benchmarks/gpu_acceptance.py --out DIR [--budget SECONDS] [--only TEXT] [--dry]

Figures are measured in the order of what they are worth (``acceptance/figures.py``) until the budget is
spent, each in a process of its own: an error that sticks to a process costs one figure. What does not fit
any more is listed as not measured, with the reason, and so is what this machine does not have. A second
call with the same DIR measures what the first did not settle.

It needs no network and no MLflow, but alharness installed (strategies are found by entry points); on a
bare machine ``benchmarks/gpu_carry.sh`` makes what has to be carried there. Real MNIST is read from
``ALHARNESS_DATA`` (or the checkout's ``shared/data``); without it the figures that need it are not
measured. A preflight tells at once what is missing.

DIR gets ``figures.jsonl`` (hardware and versions of each call, then one line per figure, on the disk
before the next one begins) and ``figures.txt`` (the table, printed, too). The exit code is 1 when a
target was missed, or something failed, or nothing was measured; 2 when the command or the machine was
wrong.

``--dry`` makes the same calls at tiny sizes on the pretended device of ``tests/device``, on any machine,
so that the command works on the day when there is a GPU. Its times mean nothing and are not judged;
equalities are.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / part) for part in ("", "strategies", "benchmarks", "tests/device")]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds in all (default 540)")
    parser.add_argument(
        "--only", action="append", default=[], help="figures whose name has this text"
    )
    parser.add_argument("--again", action="store_true", help="also what is settled in DIR")
    parser.add_argument("--commit", default="", help="what is measured, where there is no git")
    parser.add_argument("--dry", action="store_true", help="tiny, on a pretended device")
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.out is None and options.worker is None:
        parser.error("--out DIR is needed")
    if "ALHARNESS_DATA" not in os.environ and (ROOT / "shared" / "data").is_dir():
        os.environ["ALHARNESS_DATA"] = str(ROOT / "shared" / "data")
    if options.worker is not None:
        return _worker(Path(options.worker[0]), int(options.worker[1]), dry=options.dry)
    try:
        from acceptance.figures import FIGURES
        from acceptance.report import Report
    except ImportError as error:
        print(f"gpu_acceptance: {error}. See benchmarks/gpu_carry.sh.", file=sys.stderr)
        return 2
    chosen = [
        figure
        for figure in FIGURES
        if not options.only or any(text in figure.name for text in options.only)
    ]
    if not chosen:
        names = ", ".join(figure.name for figure in FIGURES)
        parser.error(f"no figure has {' or '.join(options.only)} in its name. There are: {names}")
    with tempfile.TemporaryDirectory(prefix="alharness-gpu-") as scratch:
        os.environ.setdefault("ALHARNESS_CACHE", f"{scratch}/cache")
        report = Report(
            options.out,
            Path(scratch),
            dry=options.dry,
            budget_s=options.budget,
            commit=options.commit,
        )
        wrong = report.preflight()
        if wrong:
            print(f"gpu_acceptance: {wrong}", file=sys.stderr)
            return 2
        for figure in chosen:
            if options.again or not report.is_settled(figure):
                report.measure(figure)
        return report.close()


def _worker(folder: Path, seed: int, *, dry: bool) -> int:
    """One of two processes on a card."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        if dry:
            from pretended_cuda import pretended_cuda

            stack.enter_context(pretended_cuda())
        from acceptance.equality import worker

        worker(folder, seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())

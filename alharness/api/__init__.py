"""The commands as functions, for scripts and notebooks: ``alharness.run`` and its neighbours.

They write and read the same folders as the commands, so a run that was begun in one is continued in the
other. What a user can mend is a ``UserError``; its text names options as the command has them
(``--fresh`` is ``fresh=True``).
"""

from __future__ import annotations

from alharness.api.comparing import ComparisonResult, compare
from alharness.api.frames import load_runs
from alharness.api.labelling import ask
from alharness.api.running import RunResult, run
from alharness.api.sweeping import SweepResult, sweep
from alharness.api.tuning import TuneResult, tune

__all__ = [
    "ComparisonResult",
    "RunResult",
    "SweepResult",
    "TuneResult",
    "ask",
    "compare",
    "load_runs",
    "run",
    "sweep",
    "tune",
]

# %% [markdown]
# A small study from Python, cell by cell (VS Code, Spyder and Jupytext know the "# %%" marks).
# Three strategies, two seeds, twenty labels per cycle, on the embedded digits; seconds.

# %%
from __future__ import annotations

from pathlib import Path

from alharness.comparison.comparison import comparisons
from alharness.comparison.runs import read_runs
from alharness.comparison.series import paired
from alharness.engine.opening import Places
from alharness.engine.runner import execute
from alharness.spec import resolve
from alharness.tasks.base import DataLocations

RUNS = Path("runs-of-study")
PLACES = Places(RUNS, DataLocations.resolve())
STRATEGIES = ["random", "margin", f"{Path(__file__).with_name('my_strategy.py')}:Spread"]

# %% [markdown]
# `resolve` turns what one says into a spec with nothing left open; equal specs are the same run. `execute`
# runs it, continues it where it was stopped, or finds it finished: this cell can be run again at any time.

# %%
for strategy in STRATEGIES:
    for seed in range(2):
        spec = resolve(
            {
                "task": "digits-ten",
                "strategy": strategy,
                "seed": seed,
                "budget": 80,
                "query_size": 20,
                "learner": {"min_steps": 100, "epochs": 0},  # seconds instead of minutes
            }
        )
        folder = execute(spec, PLACES)
        last = folder.records()[-1]
        print(
            f"{strategy:>10.10} seed {seed}: {last.test.accuracy:.3f} with {last.n_labelled} labels"
        )

# %% [markdown]
# The records are the truth: one line per cycle. A comparison pairs runs of equal seeds that began alike, and
# refuses runs of different protocols.

# %%
(comparison,) = comparisons(read_runs(RUNS))
baseline = comparison.find("random")
print(f"\n{'strategy':<40} {'labels':>6} {'accuracy':>8} {'gain':>7} {'select_s':>8}")
for series in comparison.series:
    grid, curves = series.curves("labels", "accuracy")
    pairs = paired(series, baseline)
    gains = [
        series.by_pair[pair].y("accuracy")[-1] - baseline.by_pair[pair].y("accuracy")[-1]
        for pair in pairs
    ]
    select_s = [record.time.select_s or 0.0 for run in series.runs for record in run.records]
    label = series.label[-40:]
    print(
        f"{label:<40} {grid[-1]:>6.0f} {curves[:, -1].mean():>8.3f} "
        f"{sum(gains) / len(gains):>+7.3f} {sum(select_s) / len(select_s):>8.4f}"
    )

# %% [markdown]
# Two seeds decide nothing (docs/protocol.md, R2 and R11). `alharness sweep` and `alharness report` do the
# same with ten seeds, paired tests and pictures.

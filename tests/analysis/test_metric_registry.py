"""Test figures have one home: what the record holds is what every command compares by and shows."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from alharness.cli import call
from alharness.comparison.claims import claims
from alharness.comparison.metrics import MERITS
from alharness.records import METRICS, TestFigures
from alharness.tracking.metrics import cycle_metrics

HARNESS = Path(__file__).parents[2] / "alharness"

#: Where a figure is declared and computed, and a terminal that shows two of them while a run goes on.
HOMES = {"records/records.py", "engine/evaluation.py"}
#: Figures with a rule of their own: records of old, the words that say what it is of; what decides where
#: classes are uneven, and stands beside accuracy on a terminal.
RULES = {(f"records/{name}.py", "average_precision") for name in ("runs", "metrics")}
RULES |= {(name, "balanced_accuracy") for name in ("comparison/metrics.py", "cli/display.py")}


def test_every_figure_of_the_record_can_be_compared_by(capsys: Any) -> None:
    assert set(METRICS) == set(TestFigures.model_fields) - {"average_precision_of"}  # words
    assert set(METRICS) <= set(MERITS)
    assert call(["compare", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert ", ".join(METRICS) in told


def test_every_figure_is_a_chart_in_mlflow(make_run: Any) -> None:
    from alharness.records import read_run

    record = read_run(make_run("random", 0)).records[0]
    assert {f"test/{name}" for name in METRICS} <= set(cycle_metrics(record))


def test_claims_are_on_figures_of_the_record() -> None:
    assert {claim.metric for claim in claims()} <= set(METRICS)


def test_no_other_file_lists_figures_by_name() -> None:
    """A new figure is a field of the record and its computing: two files."""
    rare = set(METRICS) - {"accuracy", "log_loss"}  # words of other things, too
    found = set()
    for path in HARNESS.rglob("*.py"):
        name = str(path.relative_to(HARNESS))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in rare and name not in HOMES:
                found.add((name, node.value))
    assert found <= RULES


def test_a_figure_that_older_runs_lack_is_said_with_the_runs(make_run: Any, capsys: Any) -> None:
    make_run("random", 0, undefined=["average_precision"])
    make_run("margin", 0)
    assert call(["compare", str(make_run.root), "--metric", "average_precision"]) == 0
    assert "in 1 of 2 runs (digits-two / random / seed 0)" in capsys.readouterr().out

"""The greedy bound sees test figures, openly: it is marked wherever it stands, and never ranked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

import alharness
from alharness import UserError
from alharness.border.vault import Vault
from alharness.spec import resolve

SETTINGS: dict[str, Any] = {
    "budget": 10,
    "query_size": 2,
    "initial_size": 6,
    "learner": {"kind": "linear"},
    "tracking": False,
}


@pytest.fixture(autouse=True)
def _table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load_iris(as_frame=True).frame[::3].to_csv("flowers.csv", index=False)


def run(strategy: Any, seed: int = 0, **more: Any) -> alharness.RunResult:
    return alharness.run(strategy, "table:flowers.csv", seed=seed, **{**SETTINGS, **more})


def test_it_lies_above_random_and_what_it_saw_is_what_comes(tmp_path: Path) -> None:
    bound, random = run({"name": "greedy-bound", "n_candidates": 10}), run("random")
    assert bound.records[0].learner_digest == random.records[0].learner_digest, "equal starts"
    assert bound.accuracy > random.accuracy
    assert all(r.work["classifiers_trained"] == 20 for r in bound.records if not r.final)
    # What is judged is the very classifier of the next cycle: with one candidate for each item that is
    # left, no query of one item is better.
    every = {"name": "greedy-bound", "n_candidates": 200}
    best = run(every, query_size=1, budget=7).records[-1].test.accuracy
    for other in ("random", "margin"):
        assert run(other, query_size=1, budget=7).accuracy <= best


def test_it_is_marked_in_record_comparison_figure_and_report(tmp_path: Path) -> None:
    for strategy in ("greedy-bound", "random", "margin", "full"):
        judged = strategy == "greedy-bound"
        chosen = {"name": strategy, "n_candidates": 2} if judged else strategy
        result = run(chosen)
        assert result.run.facts.strategy.looks_at_test_labels is judged
        told = result.run.facts.as_written()["strategy"]
        assert ("looks_at_test_labels" in told) is judged
    compared = alharness.compare(tmp_path / "runs")
    (section,) = compared.report.sections
    assert [row.label for row in section.rows if row.rank] == [r.label for r in section.rows]
    assert {row.label for row in section.rows} == {"random", "margin"}, "neither ranked nor tested"
    text = compared.text("md")
    assert "(bound: it looked at the test set's labels)" in text
    assert "an upper curve and no strategy" in text
    assert "all 4 runs are finished" in text
    drawn = next(c for name, c in compared.charts.items() if name.endswith("curve_accuracy"))
    assert "it looked at the test set's labels" in drawn.csv
    assert "greedy-bound" in drawn.svg


def test_no_plug_in_has_test_figures_without_the_mark(tmp_path: Path) -> None:
    Path("mine.py").write_text(
        """
from alharness.strategy import PoolQuery, Strategy


class Plain(Strategy):
    \"\"\"Takes the first, and looks whether it is shown more than a strategy is.\"\"\"

    def select(self, view, query_size):
        assert view.judge is None
        self.looks_at_test_labels = type(self).looks_at_test_labels = False
        return PoolQuery(view.unlabelled[:query_size])


class Declared(Strategy):
    \"\"\"Asks for figures openly.\"\"\"

    looks_at_test_labels = True

    def select(self, view, query_size):
        assert 0 <= view.judge(view.unlabelled[:query_size]).accuracy <= 1
        return PoolQuery(view.unlabelled[:query_size])


class Late(Strategy):
    \"\"\"Declares it once it runs, which is too late.\"\"\"

    def prepare(self, preparation):
        self.looks_at_test_labels = True

    def select(self, view, query_size):
        assert view.judge is None
        return PoolQuery(view.unlabelled[:query_size])
""",
        encoding="utf-8",
    )
    assert run("./mine.py:Declared").run.is_judged
    assert not run("./mine.py:Late").run.is_judged


def test_it_tries_so_many_items_and_climbs_the_figure_that_is_named() -> None:
    from types import SimpleNamespace

    from alharness.registry import resolve_strategy
    from alharness.timing import Stopwatch, WorkCounters

    def chosen(**parameters: Any) -> tuple[list[int], int]:
        tried: list[int] = []

        def judge(indices: torch.Tensor) -> Any:
            tried.append(int(indices[-1]))
            return SimpleNamespace(
                accuracy=float(3 in indices), balanced_accuracy=float(5 in indices), log_loss=1.0
            )

        view: Any = SimpleNamespace(
            judge=judge,
            unlabelled=torch.arange(8),
            rng=lambda *purpose: np.random.default_rng(0),
            stopwatch=Stopwatch("cpu"),
            work=WorkCounters(),
        )
        query: Any = resolve_strategy("greedy-bound", **parameters).select(view, 1)
        return query.indices.tolist(), len(tried)

    assert chosen() == ([3], 8)
    assert chosen(metric="balanced_accuracy") == ([5], 8)
    assert chosen(n_candidates=1)[1] == 1


def test_the_vault_stays_sealed_while_it_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    from alharness_strategies.greedy_bound import GreedyBound

    asked = []
    select = GreedyBound.select

    def looking(self: Any, view: Any, query_size: int) -> Any:
        attempts = Vault.attempts
        for vault in list(Vault._all):
            with pytest.raises(PermissionError):
                vault.reveal(torch.arange(1))
        Vault.attempts = attempts  # the test's own look is none of the plug-in's
        asked.append(view.cycle)
        return select(self, view, query_size)

    monkeypatch.setattr(GreedyBound, "select", looking)
    run({"name": "greedy-bound", "n_candidates": 2})
    assert asked


def test_it_hides_in_no_other_name() -> None:
    base = {"task": "digits-ten"}
    with pytest.raises(UserError, match="expects a strategy that chooses among"):
        resolve({**base, "strategy": "subset:50:greedy-bound"})
    with pytest.raises(UserError, match="it is a bound that looks at the test set's labels"):
        resolve({**base, "strategy": "random", "initial": "greedy-bound"})

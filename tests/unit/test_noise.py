"""``oracle.noise``: wrong labels on purpose, the same ones for every strategy, and never unsaid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import alharness
from alharness import UserError
from alharness.oracle import Oracle, OracleSettings
from alharness.oracle.noise import with_noise
from alharness.queries import PoolQuery
from alharness.records import QueryLog
from alharness.spec import resolve
from alharness.tasks.base import DataLocations
from alharness.tasks.digits import DigitsTen

TINY: Mapping[str, Any] = {
    "budget": 80,
    "query_size": 20,
    "learner": {"min_steps": 50, "epochs": 0},
}
NOISY: Mapping[str, Any] = {**TINY, "oracle": {"noise": 0.25}}


def test_an_exact_share_is_wrong_and_a_larger_share_holds_a_smaller_one() -> None:
    targets = np.arange(1000) % 4
    few, many = (with_noise(targets, 4, share, 7) for share in (0.1, 0.3))
    assert (few != targets).sum() == 100
    assert (many != targets).sum() == 300
    assert np.array_equal(few[few != targets], many[few != targets])
    shifts = np.bincount((many - targets)[many != targets] % 4, minlength=4)
    assert shifts[0] == 0
    assert shifts[1:].min() > 75, "each of the other classes is as probable"
    assert np.array_equal(few, with_noise(targets, 4, 0.1, 7))
    assert not np.array_equal(few, with_noise(targets, 4, 0.1, 8))
    assert np.array_equal(targets, np.arange(1000) % 4), "the truth stays"


def test_the_oracle_says_which_of_its_answers_are_wrong() -> None:
    targets = np.arange(40) % 2
    oracle = Oracle(targets, 2, settings=OracleSettings(noise=0.5), data_seed=1)
    answer = oracle.annotate(PoolQuery(torch.arange(40)), cycle=0)
    assert answer.wrong is not None
    assert answer.wrong.sum() == 20
    assert torch.equal(answer.wrong, answer.targets != torch.from_numpy(targets))
    assert oracle.confirms(answer)
    assert torch.equal(oracle.truth.reveal(), torch.from_numpy(targets))
    assert oracle.notes["labels"].startswith("20 of the 40 labels of the pool are wrong on purpose")


def test_without_noise_nothing_is_said() -> None:
    oracle = Oracle(np.arange(4) % 2, 2)
    assert oracle.annotate(PoolQuery(torch.arange(4)), cycle=0).wrong is None
    assert oracle.notes == {}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, alharness.RunResult]:
    """Two noisy strategies and a clean one, at one seed."""
    where = tmp_path_factory.mktemp("noise")
    return {
        "random": alharness.run("random", "digits-ten", runs_dir=where, tracking=False, **NOISY),
        "margin": alharness.run("margin", "digits-ten", runs_dir=where, tracking=False, **NOISY),
        "clean": alharness.run("margin", "digits-ten", runs_dir=where, tracking=False, **TINY),
    }


def labels(run: alharness.RunResult) -> dict[int, int]:
    log = QueryLog.read(run.folder / "queries.npz")
    found: dict[int, int] = {}
    for cycle in log.cycles("targets"):
        indices, targets = log.rows("indices", cycle), log.rows("targets", cycle)
        assert indices is not None
        assert targets is not None
        found.update(zip(indices.tolist(), targets.tolist(), strict=True))
    return found


def test_all_strategies_start_alike_and_meet_the_same_wrong_labels(
    runs: dict[str, alharness.RunResult],
) -> None:
    first, second = runs["random"], runs["margin"]
    assert first.records[0].labelled_digest == second.records[0].labelled_digest
    assert first.records[0].learner_digest == second.records[0].learner_digest
    assert first.records[0].learner_digest != runs["clean"].records[0].learner_digest
    mine, yours = labels(first), labels(second)
    shared = mine.keys() & yours.keys()
    assert len(shared) >= 40
    assert all(mine[index] == yours[index] for index in shared)


def test_what_was_wrong_is_recorded_and_the_test_set_is_not(
    runs: dict[str, alharness.RunResult],
) -> None:
    truth = DigitsTen("digits-ten").load(DataLocations.resolve()).pool_targets
    run = runs["margin"]
    log = QueryLog.read(run.folder / "queries.npz")
    for cycle in (-1, 0, 1):
        wrong = log.rows("wrong", cycle)
        indices, targets = log.rows("indices", cycle), log.rows("targets", cycle)
        assert wrong is not None
        assert np.array_equal(wrong, truth[indices] != targets)
        if cycle >= 0:
            annotation = run.records[cycle].annotation
            assert annotation is not None
            assert annotation.n_wrong == wrong.sum() > 0
    assert run.cycles["annotation.n_wrong"][0] == run.records[0].annotation.n_wrong  # type: ignore[union-attr]
    notes = run.run.facts.task.notes["labels"]
    assert notes.startswith(f"{round(0.25 * len(truth)):,} of the {len(truth):,} labels")
    clean = runs["clean"].run.facts.task
    assert clean.test_counts == run.run.facts.task.test_counts
    assert clean.fingerprint == run.run.facts.task.fingerprint
    assert "n_wrong" not in (runs["clean"].folder / "cycles.jsonl").read_text()
    assert "labels" not in clean.notes


def test_noisy_and_clean_runs_are_not_compared_unsaid(
    runs: dict[str, alharness.RunResult],
) -> None:
    with pytest.raises(
        UserError, match=r"'noise' is 0\.0 in 1 run .*, 0\.25 in 1 run.*--split-by noise"
    ):
        alharness.compare(runs["margin"], runs["clean"])
    split = alharness.compare(runs["margin"], runs["clean"], split_by=["noise"])
    assert [section.comparison.title for section in split.report.sections] == [
        "digits-ten, noise 0.0",
        "digits-ten, noise 0.25",
    ]
    assert len(alharness.compare(runs["margin"], runs["random"]).table) == 2


def test_a_stopped_noisy_run_goes_on_as_if_it_had_not(
    runs: dict[str, alharness.RunResult], tmp_path: Path
) -> None:
    def stop(record: Any) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        alharness.run(
            "margin", "digits-ten", runs_dir=tmp_path, tracking=False, on_cycle=stop, **NOISY
        )
    again = alharness.run("margin", "digits-ten", runs_dir=tmp_path, tracking=False, **NOISY)
    assert [r.without_times() for r in again.records] == [
        r.without_times() for r in runs["margin"].records
    ]


def test_the_wrong_labels_follow_the_seed_of_the_first_labels() -> None:
    targets = np.arange(100) % 2
    settings = OracleSettings(noise=0.3)
    one, other, third = (
        Oracle(targets, 2, settings=settings, seed=seed, data_seed=data_seed).vault.reveal()
        for seed, data_seed in ((0, 5), (1, 5), (0, 6))
    )
    assert torch.equal(one, other)
    assert not torch.equal(one, third)


def test_keys_of_runs_without_noise_stay_and_nonsense_is_one_line() -> None:
    asked = {"task": "digits-two", "strategy": "random", "device": "cpu"}
    plain = resolve(asked)
    assert resolve({**asked, "oracle": {"noise": 0.0}}).run_key == plain.run_key
    assert resolve({**asked, "oracle": {"noise": 0.1}}).run_key != plain.run_key
    with pytest.raises(UserError, match=r"oracle.noise.*less than 1"):
        resolve({**asked, "oracle": {"noise": 1.0}})
    with pytest.raises(UserError, match="Leave one of the two out"):
        resolve({**asked, "oracle": {"noise": 0.1, "mode": "human"}})


def test_an_annotator_of_synthetic_images_learns_from_the_truth(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from alharness.oracle import annotator as module

    seen: list[np.ndarray] = []

    def obtain(data: Any, *rest: Any, **options: Any) -> Any:
        seen.append(np.array(data.pool_targets))
        raise InterruptedError

    monkeypatch.setattr(module, "obtain_annotator", obtain)
    with pytest.raises(InterruptedError):
        alharness.run(
            "gaal", "digits-two", runs_dir=tmp_path, tracking=False, generator={"steps": 2}, **NOISY
        )
    from alharness.tasks.digits import DigitsTwo

    truth = DigitsTwo("digits-two").load(DataLocations.resolve()).pool_targets
    assert np.array_equal(seen[0], truth)

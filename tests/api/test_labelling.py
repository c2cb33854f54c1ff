"""``alharness.ask``: the strategy chooses, somebody tells; nothing that was told is lost or made up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import alharness
from alharness import UserError
from alharness.cli import call
from alharness.engine.labelling import Asked, LabelSession
from alharness.oracle.answers import AnswerFile
from alharness.records import RunFolder
from alharness.tasks.base import DataLocations

TINY: Mapping[str, Any] = {
    "budget": 26,
    "query_size": 3,
    "initial_size": 20,
    "device": "cpu",
    "learner": {"min_steps": 20, "epochs": 0},
}


def session(tmp_path: Path, **settings: Any) -> LabelSession:
    given = {**TINY, **settings}
    return alharness.ask("max-entropy", "digits-two", runs_dir=tmp_path / "runs", **given)


@pytest.fixture(scope="module")
def truth() -> list[str]:
    """The class of every pool item of digits-two, by name."""
    from alharness.registry import resolve_task

    data = resolve_task("digits-two").load(DataLocations.resolve())
    return [data.class_names[target] for target in data.pool_targets]


def lines_of(opened: LabelSession) -> list[dict[str, Any]]:
    path = AnswerFile(opened.answers).path
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_told_by_the_truth_it_is_the_run_whose_oracle_is_the_data(
    tmp_path: Path, truth: list[str]
) -> None:
    """One mechanism: the same queries, labels and classifiers as those of an ordinary run."""
    with session(tmp_path) as asked:
        queries = []
        while (query := asked.next()) is not None:
            assert query.indices is not None
            queries.append(query.indices.tolist())
            assert query.items.shape == (3, 1, 8, 8)
            assert query.class_names == ("5", "7")
            assert asked.tell([truth[index] for index in query.indices]) == 0
        assert [len(query) for query in queries] == [3, 3]
        assert asked.finished
        assert asked.next() is None
    run = alharness.run(
        "max-entropy", "digits-two", runs_dir=tmp_path / "runs", tracking=False, **TINY
    )
    told = asked.folder.records()
    for mine, theirs in zip(told, run.records, strict=True):
        # Of a person's answers it is recorded how many are not the data's, which is a row of its own.
        assert (mine.labelled_digest, mine.learner_digest) == (
            theirs.labelled_digest,
            theirs.learner_digest,
        )
        assert (mine.query, mine.test, mine.fit) == (theirs.query, theirs.test, theirs.fit)
        if mine.annotation is not None and theirs.annotation is not None:
            assert mine.annotation.n_wrong == 0
            same = mine.annotation.model_copy(update={"n_wrong": None})
            assert same == theirs.annotation
    assert all(record.time.annotate_s > 0 for record in told[:-1] if record.time.annotate_s)


def test_a_query_stays_open_until_all_of_it_is_told(tmp_path: Path) -> None:
    with session(tmp_path) as asked:
        query = asked.next()
        assert query is not None
        assert query.indices is not None
        first, second, third = query.indices.tolist()
        assert asked.tell({first: "5"}) == 2
        again = asked.next()
        assert again is not None
        assert again.cycle == query.cycle == 0
        assert again.told == ("5", None, None)
        assert again.open == (1, 2)
        assert asked.tell({str(second): None, third: "7"}) == 0  # by name; cannot tell
        after = asked.next()
        assert after is not None
        assert after.cycle == 1
        assert asked.records[0].annotation is not None
        assert asked.records[0].annotation.n_rejected == 1


def test_a_session_goes_on_where_another_process_stood(tmp_path: Path) -> None:
    with session(tmp_path) as first:
        query = first.next()
        assert query is not None
        first.tell({query.names[0]: "5", query.names[2]: "7"}, who="ada")
    with session(tmp_path) as second:
        again = second.next()
        assert again is not None
        assert again.names == query.names
        assert again.told == ("5", None, "7")
        second.tell({query.names[1]: "5"}, who="bob")
        following = second.next()
        assert following is not None
        assert following.cycle == 1
    assert [(line["item"], line["label"], line["who"]) for line in lines_of(second)] == [
        (1, "5", "ada"),
        (3, "7", "ada"),
        (2, "5", "bob"),
    ]


def test_the_last_answer_counts_and_can_be_taken_back(tmp_path: Path) -> None:
    with session(tmp_path) as asked:
        query = asked.next()
        assert query is not None
        asked.tell(["5", "5", "5"])
        asked.tell({query.names[0]: "7"})
        assert asked.asked().told == ("7", "5", "5")
        assert asked.undo() == query.names[0]
        assert asked.asked().told == (None, "5", "5")
        assert asked.undo() == query.names[2]
        assert asked.undo() == query.names[1]
        with pytest.raises(UserError, match="nothing to take back"):
            asked.undo()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["5", "7"], "Expected 3 classes in the order of the query"),
        ("577", "Expected 3 classes"),
        (["5", "7", "8"], "expected 5, 7 or skip; found '8'"),
        (
            ["5", "7", 0],
            "expected 5, 7 or skip; found '0'",
        ),  # 0 is no class where classes are numbers
        ({10**6: "5"}, "1 of 1 answers are to items that this query does not ask about: 1000000"),
        ({"cat.png": "5"}, "does not ask about: 'cat.png'"),
        ([("5", 2), "5", "5"], "found 5, 2"),
        ([(), "5", "5"], "found nothing"),
    ],
)
def test_what_was_not_asked_and_what_is_no_class_is_refused_whole(
    tmp_path: Path, labels: Any, message: str
) -> None:
    with session(tmp_path) as asked:
        asked.next()
        with pytest.raises(UserError, match=message):
            asked.tell(labels)
        assert asked.asked().told == (None, None, None)


def test_numpy_labels_are_labels(tmp_path: Path) -> None:
    with session(tmp_path) as asked:
        asked.next()
        assert asked.tell(np.array([5, 7, 5])) == 0
        assert asked.asked().told == ("5", "7", "5")


def test_an_answer_to_a_query_that_is_over_is_refused(tmp_path: Path) -> None:
    with session(tmp_path) as asked:
        query = asked.next()
        assert query is not None
        asked.tell(["5", "7", "5"])
        asked.next()
        with pytest.raises(UserError, match="does not ask about"):
            asked.tell({query.names[0]: "7"})


def test_the_folder_is_held_while_a_session_is_open_and_free_after_it(tmp_path: Path) -> None:
    with session(tmp_path) as one:
        one.next()
        with session(tmp_path) as other, pytest.raises(UserError, match="Another process"):
            other.next()
    with session(tmp_path) as other:
        assert other.next() is not None


def test_a_session_leaves_the_settings_of_the_process_alone(tmp_path: Path) -> None:
    """Between two calls the caller's program computes as it did before."""
    import torch

    before = torch.get_float32_matmul_precision(), torch.empty(0).device
    with session(tmp_path) as asked:
        torch.set_float32_matmul_precision("high")
        try:
            asked.next()
            assert torch.get_float32_matmul_precision() == "high"
            assert torch.empty(0).device == before[1]
        finally:
            torch.set_float32_matmul_precision(before[0])


def test_rows_are_asked_about_as_well_as_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4)).astype(np.float32)
    path = tmp_path / "a.npz"
    np.savez(path, x=x, y=(x[:, 0] > 0).astype(int))
    with alharness.ask(
        "margin", f"npz:{path}", runs_dir=tmp_path / "runs", **{**TINY, "learner.kind": "linear"}
    ) as asked:
        query = asked.next()
        assert isinstance(query, Asked)
        assert query.items.shape == (3, 4)
        asked.tell([str(int(row[0] > 0)) for row in query.items])
        assert asked.next() is not None


def test_the_sheet_and_the_session_are_two_fronts_of_one_query(tmp_path: Path) -> None:
    """Told in Python, corrected in the sheet; a cell speaks when it is changed, and only then."""
    with session(tmp_path, sheets=True) as asked:
        query = asked.next()
        assert query is not None
        table = asked.answers / "cycle_0000.csv"
        rows = table.read_text(encoding="utf-8").splitlines()
        assert rows[2] == "image,label,item"
        assert rows[3] == f"1,,{query.names[0]}"
        asked.tell({query.names[0]: "5"})
        rows[3], rows[4] = f"1,7,{query.names[0]}", f"2,7,{query.names[1]}"
        table.write_text("\n".join(rows), encoding="utf-8")
        again = asked.next()
        assert again is not None
        assert again.told == ("7", "7", None)
        asked.tell({query.names[0]: "5"})
        once_more = asked.next()
        assert once_more is not None
        assert once_more.told == ("5", "7", None)  # the sheet still says 7, as it said before
        assert [line["via"] for line in lines_of(asked)] == ["python", "sheet", "sheet", "python"]


def test_a_command_goes_on_with_what_a_session_began(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with session(tmp_path) as asked:
        asked.next()
        asked.tell(["5", "7", "5"])
    typed = "run max-entropy digits-two --oracle human --initial-size 20 --query-size 3 --budget 26"
    typed += " --device cpu --no-tracking --set learner.min_steps=20 --set learner.epochs=0"
    assert call([*typed.split(), "--runs-dir", str(tmp_path / "runs")]) == 2
    assert "cycle_0001.csv" in capsys.readouterr().err
    assert len(RunFolder(asked.folder.path).records()) == 1


def test_another_oracle_asks_nobody(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="A person answers with"):
        session(tmp_path, oracle={"mode": "hard"})


@pytest.mark.parametrize(("n_known", "first"), [(5, -1), (12, 0)])
def test_what_has_a_class_already_is_the_start_and_costs_nothing(
    tmp_path: Path, n_known: int, first: int
) -> None:
    """Only what the start lacks is asked about, and the budget counts answers."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    y = np.where(x[:, 0] > 0, "yes", "no").astype(object)
    y[n_known:] = ""
    np.savez(tmp_path / "a.npz", x=x, y=y.astype(str))
    with alharness.ask(
        "margin", f"npz:{tmp_path}/a.npz", runs_dir=tmp_path / "runs", device="cpu",
        budget=11, query_size=3, initial_size=8, learner={"kind": "linear"},
    ) as asked:  # fmt: skip
        query = asked.next()
        assert query is not None
        assert (query.cycle, len(query)) == (first, 3)
        assert query.indices is not None
        assert min(query.indices) >= n_known  # nobody is asked what is known
        n = 0
        while query is not None:
            assert asked.n_asked == n
            n += len(query)
            asked.tell(["yes" if row[0] > 0 else "no" for row in query.items])
            query = asked.next()
        assert n == asked.records[-1].n_asked == 11
        assert asked.records[-1].n_labelled == n_known + 11
        assert not asked.records[-1].test.were_measured
        assert len(asked.folder.facts().sessions) == 1  # however often somebody was waited for

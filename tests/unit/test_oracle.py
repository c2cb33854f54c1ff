"""The oracle: modes, costs, lines, and a person with a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from alharness.errors import UserError
from alharness.labelled import Annotation
from alharness.learners.kinds import build_classifier
from alharness.oracle import (
    Oracle,
    OracleSettings,
    Vault,
    annotator,
    as_stored,
    exchange,
    first_change,
    sheet,
)
from alharness.oracle.annotator import NetworkAnnotator, network_for, train
from alharness.oracle.answers import Choices
from alharness.oracle.desk import AnnotationPendingError, Desk
from alharness.oracle.oracle import open_oracle
from alharness.oracle.questions import Item, Question
from alharness.pool import ArrayPool
from alharness.queries import ImageQuery, LineQuery, PoolQuery
from alharness.tasks.base import TaskData

TARGETS = torch.tensor([0, 1, 0, 1, 1, 0])


class Brightness:
    """Sees class 1 with a probability equal to the image's first pixel."""

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        p = images.flatten(1)[:, 0]
        return torch.stack([1 - p, p], dim=1)


def oracle(mode: str = "hard", **settings: object) -> Oracle:
    return Oracle(
        TARGETS,
        2,
        settings=OracleSettings(mode=mode, **settings),  # type: ignore[arg-type]
        annotator=lambda truth: Brightness(),
    )


def images(*brightness: float) -> torch.Tensor:
    return torch.tensor(brightness).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)


def test_pool_items_are_answered_from_the_targets_in_every_mode() -> None:
    for mode in ("hard", "abstain", "noisy"):
        answer = oracle(mode).annotate(PoolQuery(torch.tensor([4, 0, 3])), cycle=2)
        assert answer.targets.tolist() == [1, 0, 1]
        assert (answer.n_asked, answer.n_rejected, answer.cost) == (3, 0, 3.0)


def test_hard_takes_the_most_probable_class() -> None:
    answer = oracle().annotate(ImageQuery(images(0.1, 0.6, 0.95)), cycle=0)
    assert answer.item_targets is not None
    assert answer.item_targets.tolist() == [0, 1, 1]
    assert (answer.n_asked, answer.n_rejected, len(answer.indices)) == (3, 0, 0)


def test_abstain_rejects_what_is_unclear_and_still_charges_for_it() -> None:
    answer = oracle("abstain", threshold=0.9).annotate(ImageQuery(images(0.02, 0.6, 0.95)), cycle=0)
    assert answer.items is not None
    assert answer.item_targets is not None
    assert answer.item_targets.tolist() == [0, 1]
    assert torch.equal(answer.items, as_stored(images(0.02, 0.95)))
    assert (answer.n_asked, answer.n_rejected, answer.cost) == (3, 1, 3.0)


def test_noisy_labels_follow_the_probabilities_and_the_seed() -> None:
    query = ImageQuery(images(*[0.3] * 2000))
    first = oracle("noisy").annotate(query, cycle=5).item_targets
    again = oracle("noisy").annotate(query, cycle=5).item_targets
    other = oracle("noisy").annotate(query, cycle=6).item_targets
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert abs(float(first.float().mean()) - 0.3) < 0.04


def test_the_annotator_sees_256_levels_and_so_does_the_training_set() -> None:
    seen = []

    class Looks(Brightness):
        def probabilities(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return super().probabilities(images)

    query = ImageQuery(images(0.1234, 1.2))
    answer = Oracle(TARGETS, 2, annotator=lambda truth: Looks()).annotate(query, cycle=0)
    assert answer.items is not None
    assert torch.equal(seen[0], answer.items)
    assert torch.equal(answer.items * 255, (answer.items * 255).round())
    assert float(answer.items.max()) == 1.0


def test_the_annotator_is_made_once_and_only_when_it_is_needed() -> None:
    made = []

    def make(truth: Vault) -> Brightness:
        made.append(1)
        return Brightness()

    lazy = Oracle(TARGETS, 2, annotator=make)
    lazy.annotate(PoolQuery(torch.tensor([1])), cycle=0)
    assert made == []
    for cycle in (0, 1):
        lazy.annotate(ImageQuery(images(0.5)), cycle=cycle)
    assert made == [1]


def test_an_oracle_without_an_annotator_says_so() -> None:
    with pytest.raises(UserError, match="no annotator"):
        Oracle(TARGETS, 2).annotate(ImageQuery(images(0.5)), cycle=0)


def test_the_first_change_of_class_decides_a_line() -> None:
    labels = torch.tensor(
        [
            [1, 1, 0, 1, 0],  # the first change counts
            [0, 0, 0, 0, 0],
            [-1, 1, -1, 0, 0],  # what could not be told is passed over
            [-1, -1, -1, -1, -1],
        ]
    )
    first, change = first_change(labels)
    assert first.tolist() == [1, 0, 1, -1]
    assert change.tolist() == [2, 5, 3, -1]


def lines() -> tuple[torch.Tensor, torch.Tensor]:
    """Three lines of four points: a change in the middle, none, and one nobody can read."""
    points = torch.arange(12, dtype=torch.float32).view(3, 4, 1)
    brightness = torch.tensor([[0.99, 0.98, 0.01, 0.02], [0.01] * 4, [0.5] * 4])
    return points, brightness.view(3, 4, 1, 1, 1).expand(3, 4, 1, 8, 8)


def test_a_line_labels_all_its_points_and_costs_one_annotation() -> None:
    points, shown = lines()
    answer = oracle("abstain").annotate(LineQuery(points, shown, torch.tensor([0, 1, 2])), cycle=0)
    assert answer.items is not None
    assert answer.item_targets is not None
    assert answer.item_targets.view(2, 4).tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]
    assert torch.equal(answer.items, points[:2].flatten(0, 1))
    assert (answer.n_asked, answer.n_rejected, answer.cost) == (3, 1, 3.0)


def test_a_line_may_give_its_boundary_point_and_the_pool_items_label() -> None:
    points, shown = lines()
    answer = oracle("abstain", line_cost=11).annotate(
        LineQuery(points, shown, torch.tensor([4, 0, 2]), answer="boundary"), cycle=0
    )
    assert answer.items is None
    assert answer.indices.tolist() == [4, 0]
    assert answer.targets.tolist() == [1, 0]
    assert answer.extras["boundary"].tolist() == [[1.5]]  # half way between points 1 and 2
    assert answer.cost == 33.0


def test_lines_need_two_classes() -> None:
    points, shown = lines()
    with pytest.raises(UserError, match="two classes"):
        Oracle(TARGETS, 3, annotator=lambda truth: Brightness()).annotate(
            LineQuery(points, shown, torch.tensor([0, 1, 2])), cycle=0
        )


def test_an_annotator_learns_its_task() -> None:
    rng = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 2, (200,), generator=rng)
    pictures = torch.rand(200, 1, 8, 8, generator=rng) * 0.5
    pictures[:, :, :4] += 0.4 * targets.view(-1, 1, 1, 1)
    pool = ArrayPool((pictures * 255).to(torch.uint8))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_classifier(network_for((1, 8, 8)), (1, 8, 8), 2, 16)
    train(network, pool, targets, 5, lambda *_: None)
    annotator = NetworkAnnotator(network, torch.device("cpu"), 1.0, "")
    p = annotator.probabilities(pictures)
    assert torch.allclose(p.sum(dim=1), torch.ones(200))
    assert float((p.argmax(dim=1) == targets).float().mean()) > 0.97


# A person ------------------------------------------------------------------------------------


def desk(folder: Path) -> Desk:
    return Desk(folder / "annotations", ("five", "seven"))


def fill(table: Path, *answers: str) -> None:
    """Write answers behind the numbers of a table's rows, as an editor would."""
    lines = table.read_text(encoding="utf-8").splitlines()
    for number, answer in enumerate(answers, start=3):
        lines[number] = lines[number].split(",")[0] + "," + answer
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_person_gets_a_picture_and_a_table_and_the_run_goes_on(tmp_path: Path) -> None:
    shown = images(0.1, 0.5, 0.9)
    with pytest.raises(AnnotationPendingError, match="3 of 3 annotations are missing") as pending:
        desk(tmp_path).labels(shown, 7)
    table = pending.value.table
    assert table.name == "cycle_0007.csv"
    assert "five (0), seven (1)" in table.read_text()
    assert Image.open(pending.value.picture).width > 200

    fill(table, "five", "skip")  # interrupted: what was entered stays
    before = table.read_text()
    with pytest.raises(AnnotationPendingError, match="1 of 3"):
        desk(tmp_path).labels(shown, 7)
    assert table.read_text() == before

    fill(table, "Five", "skip", "1")
    assert desk(tmp_path).labels(shown, 7).tolist() == [0, -1, 1]


def test_the_oracle_hands_all_queries_but_the_initial_set_to_the_person(tmp_path: Path) -> None:
    pool = ArrayPool((images(0, 0.2, 0.4, 0.6, 0.8, 1.0) * 255).to(torch.uint8))
    human = Oracle(
        TARGETS, 2, settings=OracleSettings(mode="human"), person=desk(tmp_path), pool=pool
    )
    assert human.annotate(PoolQuery(torch.tensor([1])), cycle=-1).targets.tolist() == [1]
    query = PoolQuery(torch.tensor([3, 5]))
    with pytest.raises(AnnotationPendingError):
        human.annotate(query, cycle=0)
    fill(tmp_path / "annotations" / "cycle_0000.csv", "five", "skip")
    answer = human.annotate(query, cycle=0)
    assert (answer.indices.tolist(), answer.targets.tolist()) == ([3], [0])
    assert (answer.n_asked, answer.n_rejected) == (2, 1)


def test_what_was_labelled_are_the_answers_and_on_demand_what_is_still_open(
    tmp_path: Path,
) -> None:
    with pytest.raises(AnnotationPendingError) as pending:
        desk(tmp_path).labels(images(0.1, 0.5, 0.9), 0, torch.tensor([4, 2, 3]))
    answers = {1: ("seven",), 3: ("skip",)}
    desk(tmp_path).take(pending.value.question, answers, via="test")
    folder = tmp_path / "annotations"
    found = exchange.labelled(folder, ("five", "seven"))
    assert [(row.item.index, row.label) for row in found] == [(4, "seven"), (3, "skip")]
    whole = exchange.labelled(folder, ("five", "seven"), also_open=True)
    assert [(row.item.index, row.label) for row in whole] == [(4, "seven"), (2, None), (3, "skip")]


def test_a_person_answers_lines_by_the_first_image_of_the_other_class(tmp_path: Path) -> None:
    _, shown = lines()
    with pytest.raises(AnnotationPendingError) as pending:
        desk(tmp_path).changes(shown, 0)
    fill(pending.value.table, "seven,3", "five,0", "skip,")
    assert desk(tmp_path).changes(shown, 0).tolist() == [[1, 2], [0, 4], [-1, -1]]
    fill(pending.value.table, "seven,9", "five,0", "skip,")
    with pytest.raises(UserError, match=r"changes_at must be 0 or 2 \.\. 4; found '9'"):
        desk(tmp_path).changes(shown, 0)


@pytest.mark.parametrize(
    ("answers", "message"),
    [(("five", "eight", "1"), "found 'eight'"), (("five", "2", "1"), "found '2'")],
)
def test_an_answer_that_is_no_class_is_named(
    tmp_path: Path, answers: tuple[str, ...], message: str
) -> None:
    with pytest.raises(AnnotationPendingError) as pending:
        desk(tmp_path).labels(images(0.1, 0.5, 0.9), 0)
    fill(pending.value.table, *answers)
    with pytest.raises(UserError, match=message):
        desk(tmp_path).labels(images(0.1, 0.5, 0.9), 0)


def test_classes_that_are_numbers_are_answered_by_name_only(tmp_path: Path) -> None:
    digits = Desk(tmp_path, ("5", "7"))
    with pytest.raises(AnnotationPendingError) as pending:
        digits.labels(images(0.1, 0.9), 0)
    fill(pending.value.table, "7", "5")
    assert digits.labels(images(0.1, 0.9), 0).tolist() == [1, 0]
    fill(pending.value.table, "7", "1")
    with pytest.raises(UserError, match="expected 5, 7 or skip; found '1'"):
        digits.labels(images(0.1, 0.9), 0)


@pytest.mark.parametrize(
    ("names", "answers", "classes"),
    [
        (("1.0", "2.0"), ("1", "2.0"), [0, 1]),  # as a spreadsheet writes 1.0; not class number 1
        (("1e3", "2e3"), ("1000", "2e3"), [0, 1]),
        (("-1", "-2"), ("-2", "-1"), [1, 0]),
        (("cat", "1e5 dogs"), ("1", "0"), [1, 0]),  # no numbers: answered by number as ever
    ],
)
def test_names_that_a_spreadsheet_takes_for_numbers_are_no_numbers_of_classes(
    tmp_path: Path, names: tuple[str, str], answers: tuple[str, str], classes: list[int]
) -> None:
    asked = Desk(tmp_path, names)
    with pytest.raises(AnnotationPendingError) as pending:
        asked.labels(images(0.1, 0.9), 0)
    fill(pending.value.table, *answers)
    assert asked.labels(images(0.1, 0.9), 0).tolist() == classes


@pytest.mark.parametrize(
    ("names", "answers"),
    [
        (("cat", "dog", "eel"), {"0": 0, "2": 2, "3": None, "DOG": 1, "": -1, "skip": -1}),
        (("cat", "7", "eel"), {"0": None, "1": None, "7": 1, "7.0": 1, "cat": 0}),
        (("5", "7"), {"0": None, "1": None, "5": 0, "7": 1}),
        (("a", "A"), {"a": 0, "A": 1, "1": 1}),
    ],
)
def test_numbers_of_classes_are_answers_where_no_name_is_a_number(
    names: tuple[str, ...], answers: dict[str, int | None]
) -> None:
    choices = Choices(names)
    for answer, number in answers.items():
        if number is None:
            with pytest.raises(UserError, match="line 3: expected"):
                choices.number(answer, "line 3")
        else:
            assert choices.number(answer or choices.skip, "line 3") == number
    assert [choices.name(number) for number in range(-1, len(names))] == [None, *names]
    assert str(choices).count("(") == (0 if any(name.isdigit() for name in names) else len(names))


def test_labels_are_confirmed_by_the_targets_and_a_person_is_not_asked_twice() -> None:
    right = Annotation(
        torch.tensor([0, 2]), torch.tensor([1, 0]), n_asked=2, n_rejected=0, cost=2.0
    )
    wrong = replace(right, targets=torch.tensor([1, 1]))
    targets = np.array([1, 0, 0])
    assert Oracle(targets, 2).confirms(right)
    assert not Oracle(targets, 2).confirms(wrong)
    person: Any = SimpleNamespace()
    assert Oracle(targets, 2, person=person).confirms(wrong)


def test_an_answer_that_a_comma_cuts_is_not_taken_by_its_first_half(tmp_path: Path) -> None:
    cats = Desk(tmp_path, ("cat", "cat, big"))
    with pytest.raises(AnnotationPendingError) as pending:
        cats.labels(images(0.1, 0.9), 0)
    fill(pending.value.table, "cat", "cat, big")
    with pytest.raises(UserError, match=r"found more: 'big'.*in quotes"):
        cats.labels(images(0.1, 0.9), 0)
    fill(pending.value.table, "cat", '"cat, big"')
    assert cats.labels(images(0.1, 0.9), 0).tolist() == [0, 1]


def test_a_table_of_another_query_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationPendingError):
        desk(tmp_path).labels(images(0.1, 0.5), 0)
    with pytest.raises(UserError, match="another query"):
        desk(tmp_path).labels(images(0.1, 0.6), 0)


def test_rows_that_are_gone_or_out_of_order_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(AnnotationPendingError) as pending:
        desk(tmp_path).labels(images(0.1, 0.5), 0)
    table = pending.value.table
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join(lines[:-1]))
    with pytest.raises(UserError, match="has 1 rows where 2"):
        desk(tmp_path).labels(images(0.1, 0.5), 0)
    table.write_text("\n".join([*lines[:3], lines[4], lines[3]]))
    with pytest.raises(UserError, match="expected image 1, found '2'"):
        desk(tmp_path).labels(images(0.1, 0.5), 0)


def test_a_vault_gives_back_what_it_was_given_and_shows_decoys_meanwhile() -> None:
    targets = torch.tensor([0, 2, 1, 2, 0, 1] * 50)
    vault = Vault(targets, 3)
    assert torch.equal(vault.reveal(), targets)
    assert torch.equal(vault.reveal(torch.tensor([3, 0])), torch.tensor([2, 0]))
    plain = [
        value for value in vars(vault).values() if isinstance(value, torch.Tensor | np.ndarray)
    ]
    for values in plain:
        found = torch.as_tensor(np.asarray(values).astype(np.int64))
        assert float((found == targets).float().mean()) < 0.5
    first = vault.decoys.clone()
    vault.deal(1)
    assert not torch.equal(first, vault.decoys)
    vault.deal(0)
    assert torch.equal(first, vault.decoys)


def test_no_vault_answers_while_one_is_sealed() -> None:
    vault, left_behind = Vault(torch.tensor([0, 1]), 2), Vault(torch.tensor([1, 0]), 2)
    with vault.sealed():
        for found in (vault, left_behind):
            with pytest.raises(PermissionError, match="not asked while a strategy"):
                found.reveal()
    assert left_behind.reveal().tolist() == [1, 0]


@pytest.mark.parametrize(
    ("encoding", "delimiter", "end"),
    [
        ("utf-8-sig", ",", "\n"),
        ("cp1252", ";", "\r\n"),  # a German spreadsheet
        ("utf-16", "\t", "\r\n"),  # "Unicode text"
        ("utf-8", ",", "\r"),
    ],
)
def test_a_table_is_read_as_any_spreadsheet_saves_it(
    tmp_path: Path, encoding: str, delimiter: str, end: str
) -> None:
    fruit = Desk(tmp_path, ("Äpfel", "Birnen"))
    with pytest.raises(AnnotationPendingError) as pending:
        fruit.labels(images(0.1, 0.5), 0)
    table = pending.value.table
    fill(table, "Äpfel", "Birnen")
    lines = [
        line if line.startswith("#") else line.replace(",", delimiter)
        for line in table.read_text(encoding="utf-8").splitlines()
    ]
    table.write_bytes(end.join([*lines, ""]).encode(encoding))
    assert fruit.labels(images(0.1, 0.5), 0).tolist() == [0, 1]


def test_bytes_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    fruit = Desk(tmp_path, ("a", "b"))
    with pytest.raises(AnnotationPendingError) as pending:
        fruit.labels(images(0.1), 0)
    pending.value.table.write_bytes(b"\x81\x8d\xff\x00")
    with pytest.raises(UserError, match=r"Save it as CSV in UTF-8|belongs to another query"):
        fruit.labels(images(0.1), 0)


def test_classes_that_differ_in_capitals_and_one_called_skip_are_told_apart(tmp_path: Path) -> None:
    pets = Desk(tmp_path, ("Cat", "cat", "skip", "Cafe\u0301"))
    assert pets.choices.skip == "?"
    with pytest.raises(AnnotationPendingError) as pending:
        pets.labels(images(0.1, 0.3, 0.5, 0.7, 0.9), 0)
    fill(pending.value.table, "cat", "Cat", "skip", "?", "caf\u00e9")
    assert pets.labels(images(0.1, 0.3, 0.5, 0.7, 0.9), 0).tolist() == [1, 0, 2, -1, 3]
    fill(pending.value.table, "CAT", "Cat", "skip", "?", "caf\u00e9")
    with pytest.raises(UserError, match=r"expected .*found 'CAT'"):
        pets.labels(images(0.1, 0.3, 0.5, 0.7, 0.9), 0)


class Told:
    """A person who says that everything is class 1, but for what item 2 is."""

    def __init__(self) -> None:
        self.shown: list[list[int]] = []

    def labels(
        self, items: torch.Tensor, cycle: int, indices: torch.Tensor | None = None
    ) -> torch.Tensor:
        assert indices is not None
        assert len(items) == len(indices)
        self.shown.append(indices.tolist())
        return torch.where(indices == 2, -1, 1)

    def changes(self, images: torch.Tensor, cycle: int) -> torch.Tensor:
        raise AssertionError("no lines are asked about")


@pytest.mark.parametrize(
    ("targets", "cycle", "shown", "answer", "n_asked"),
    [
        # Nobody types what the data say already, and it costs what an annotator would have taken.
        ([0, 1, 0, 1], -1, [], [(0, 0), (1, 1), (2, 0), (3, 1)], 4),
        ([0, 1, 0, 1], 0, [[0, 1, 2, 3]], [(0, 1), (1, 1), (3, 1)], 4),
        # Where there are blanks, what the data say costs nothing.
        ([0, -1, -1, 1], -1, [[1, 2]], [(0, 0), (1, 1), (3, 1)], 2),
        ([0, -1, -1, 1], 0, [[0, 1, 2, 3]], [(0, 1), (1, 1), (3, 1)], 4),
        ([-1, -1, -1, -1], -1, [[0, 1, 2, 3]], [(0, 1), (1, 1), (3, 1)], 4),
    ],
)
def test_a_person_is_asked_and_paid_for_what_the_data_do_not_say(
    targets: list[int],
    cycle: int,
    shown: list[list[int]],
    answer: list[tuple[int, int]],
    n_asked: int,
) -> None:
    person = Told()
    asked = Oracle(
        np.array(targets),
        2,
        settings=OracleSettings(mode="human", image_cost=0.5),
        person=person,  # type: ignore[arg-type]
        pool=ArrayPool(torch.zeros(4, 1, 2, 2, dtype=torch.uint8)),
    )
    found = asked.annotate(PoolQuery(torch.arange(4)), cycle=cycle)
    assert person.shown == shown
    assert list(zip(found.indices.tolist(), found.targets.tolist(), strict=True)) == answer
    assert (found.n_asked, found.n_rejected) == (n_asked, 4 - len(answer))
    assert found.cost == 0.5 * n_asked
    assert found.wrong is not None
    wrong = [target != targets[index] and targets[index] >= 0 for index, target in answer]
    assert found.wrong.tolist() == wrong


@pytest.mark.parametrize(
    ("targets", "given"),
    [([0, 1, 0], []), ([0, -1, 1], [0, 2]), ([-1, -1, -1], []), ([-1, 0, 0], [1, 2])],
)
def test_what_is_given_are_the_classes_that_others_lack(
    targets: list[int], given: list[int]
) -> None:
    assert Oracle(np.array(targets), 2).given().tolist() == given


def test_first_changes_are_those_of_a_loop_over_each_line() -> None:
    labels = torch.from_numpy(np.random.default_rng(0).integers(-1, 2, size=(60, 5)))
    first, change = first_change(labels)
    for line, begins, changes in zip(labels.tolist(), first.tolist(), change.tolist(), strict=True):
        seen = [label for label in line if label >= 0]
        assert begins == (seen[0] if seen else -1)
        other = [i for i, label in enumerate(line) if seen and label == 1 - seen[0]]
        assert changes == (-1 if not seen else other[0] if other else len(line))


@pytest.mark.parametrize("value", [0.0, 0.001, 0.0019, 0.002, 0.5, 0.999, 1.0, -0.3, 1.7])
def test_an_image_is_seen_at_the_nearest_of_256_levels(value: float) -> None:
    seen = float(as_stored(torch.tensor([value])))
    level = round(255 * min(max(value, 0.0), 1.0))
    assert seen == pytest.approx(level / 255, abs=1e-7)


@pytest.mark.parametrize(
    ("n_words", "told"), [(298, "x" * 298), (300, "x" * 300), (301, "x" * 297 + "...")]
)
def test_a_cell_of_the_data_is_shown_in_one_line_of_300_signs(n_words: int, told: str) -> None:
    assert sheet._one_line("x" * n_words) == told
    assert sheet._one_line(" a\n\tb  c ") == "a b c"


@pytest.mark.parametrize(("n", "epochs", "steps"), [(600, 5, 20), (100, 3, 4), (129, 3, 6)])
def test_an_annotator_takes_its_passes_and_no_fewer_steps_than_the_least(
    monkeypatch: pytest.MonkeyPatch, n: int, epochs: int, steps: int
) -> None:
    """Batches of at most so many; the last one of a pass may be smaller."""
    monkeypatch.setattr(annotator, "BATCH_SIZE", 128 if n != 600 else 150)
    monkeypatch.setattr(annotator, "MIN_STEPS", 4)
    done: list[int] = []
    sizes: set[int] = set()

    class Counting(torch.nn.Linear):
        def forward(self, items: torch.Tensor) -> torch.Tensor:
            if self.training:
                sizes.add(len(items))
            return super().forward(items.flatten(1))

    pool = ArrayPool(torch.zeros(n, 1, 2, 2, dtype=torch.uint8))
    train(Counting(4, 2), pool, torch.zeros(n).long(), epochs, lambda *told: done.append(told[1]))
    assert done[-1] == steps
    assert max(sizes) == min(n, 150 if n == 600 else 128)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_file_of_labels_is_read_with_any_ends_of_lines_and_between_cells(
    tmp_path: Path, end: str, delimiter: str
) -> None:
    rows = [["file", "class", "who"], ["a.png", "cat", "me"], ['"b 1.png"', "dog", ""]]
    text = end.join(delimiter.join(row) for row in rows) + end
    (tmp_path / "labels.csv").write_bytes(text.encode())
    found = exchange._read(tmp_path / "labels.csv")
    assert [(row.names, row.label, row.who) for row in found] == [
        ({"file": "a.png"}, "cat", "me"),
        ({"file": "b 1.png"}, "dog", ""),
    ]
    assert [row.where[-6:] for row in found] == ["line 2", "line 3"]


def test_settings_of_the_annotator_reach_the_one_who_trains_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def obtain(data: Any, *others: Any, **settings: Any) -> Brightness:
        asked.append((data.pool_targets.tolist(), settings))
        return Brightness()

    monkeypatch.setattr(annotator, "obtain_annotator", obtain)
    shown = np.zeros((6, 1, 8, 8), np.uint8)
    targets = TARGETS.numpy()
    data = TaskData(shown, targets, shown[:2], targets[:2], ("five", "seven"), "f", "p")
    pool = ArrayPool(shown)
    made = open_oracle(
        data, pool, pool, None,  # type: ignore[arg-type]
        settings=OracleSettings(annotator="mlp", epochs=3, image_cost=0.5),
        seed=1, data_seed=2, folder=tmp_path,
    )  # fmt: skip
    answer = made.annotate(ImageQuery(images(0.1, 0.9)), cycle=0)
    assert answer.item_targets is not None
    assert (answer.item_targets.tolist(), answer.cost) == ([0, 1], 1.0)
    assert asked == [(TARGETS.tolist(), {"kind": "mlp", "epochs": 3})]


@pytest.mark.parametrize(
    ("kind", "answer", "told"),
    [
        ("lines", ("five",), "or skip and where it changes; found five"),
        ("lines", ("five", "2", "3"), "or skip and where it changes; found five, 2, 3"),
        ("images", ("five", "2"), "or skip; found five, 2"),
        ("images", ("",), "or skip; found nothing"),
    ],
)
def test_an_answer_of_another_form_is_told_which_form(
    tmp_path: Path, kind: Any, answer: tuple[str, ...], told: str
) -> None:
    question = Question(0, kind, "digest", "item", (Item(1, "one"),), 4 if kind == "lines" else 1)
    with pytest.raises(UserError, match=told):
        desk(tmp_path).take(question, {1: answer}, via="test")

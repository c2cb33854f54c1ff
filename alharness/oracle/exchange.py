"""Answers to and from other tools: CSV by file or row, and Label Studio's JSON.

Both forms name an item as the owner of the data knows it, and come back in the same form. The class of who
could not tell is written as the sheet has it (``skip``), which is never the name of a class.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from alharness.errors import UserError
from alharness.files import explained, parse_json
from alharness.oracle.answers import AnswerFile, Choices, standing
from alharness.oracle.desk import Desk
from alharness.oracle.questions import Item, Question, read_questions
from alharness.oracle.sheet import decoded

Form = Literal["csv", "label-studio"]
FORMS: tuple[Form, ...] = ("csv", "label-studio")
#: What an item's name may be, as columns and keys.
UNITS = ("file", "row", "item")


@dataclass(frozen=True)
class Labelled:
    """An item that was asked about.

    Attributes:
        question, item: where and what it is.
        label: its class, or the word of who cannot tell; None while it is open.
        who, when: gave it, ISO 8601 in UTC; empty while it is open.
        via: which way it came.
    """

    question: Question
    item: Item
    label: str | None = None
    who: str = ""
    when: str = ""
    via: str = ""


def labelled(
    folder: Path, class_names: Sequence[str], *, also_open: bool = False
) -> list[Labelled]:
    """All items of the pool that a person was asked about and answered, in the order of asking.

    Args:
        folder: ``annotations`` in the run's folder.
        class_names: of the run's data.
        also_open: also those without an answer.

    Raises:
        UserError: nobody was asked anything.
    """
    questions = read_questions(folder)
    if not questions:
        raise UserError(
            f"Nobody was asked anything in '{folder.parent}'. 'alharness label' and 'alharness run --oracle "
            "human' ask."
        )
    skip = Choices(class_names).skip
    answers = AnswerFile(folder).read()
    found = []
    for question in questions:
        given = standing(answers, question.digest)
        # What a strategy drew itself is in nobody's data.
        for item in question.items if question.kind == "items" else ():
            answer = given.get(item.number)
            if answer is not None:
                label = skip if answer.label is None else answer.label
                found.append(Labelled(question, item, label, answer.who, answer.when, answer.via))
            elif also_open:
                found.append(Labelled(question, item))
    return found


def form_of(path: Path) -> Form:
    """What a file's name asks for: Label Studio's form of ``.json``, CSV of anything else."""
    return "label-studio" if path.suffix.lower() == ".json" else "csv"


def as_text(rows: Sequence[Labelled], form: Form, *, prefix: str = "") -> str:
    """What was labelled, as a file of it holds it.

    Args:
        rows: what ``labelled`` gave.
        form: ``csv`` or ``label-studio``.
        prefix: of Label Studio's addresses of images, before the file's name.
    """
    return _csv(rows) if form == "csv" else _label_studio(rows, prefix)


def _csv(rows: Sequence[Labelled]) -> str:
    unit = rows[0].question.unit if rows else UNITS[0]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    # Where names are pool indices, one column says so.
    columns = [unit, "class", "who", "when"] + (["item"] if unit != "item" else [])
    writer.writerow([*columns, "cycle", "via"])
    for row in rows:
        told = [row.item.name, row.label or "", row.who, row.when]
        told += [str(row.item.index)] if unit != "item" else []
        writer.writerow([*told, row.question.cycle, row.via])
    return out.getvalue()


def _label_studio(rows: Sequence[Labelled], prefix: str) -> str:
    tasks = []
    for row in rows:
        item, unit = row.item, row.question.unit
        shown = "text" if item.cells is not None else "image"
        text = (
            "\n".join(f"{name}: {cell}" for name, cell in item.cells.items())
            if item.cells is not None
            else f"{prefix}{item.name}"
        )
        data: dict[str, Any] = {shown: text, unit: item.name, "item": item.index}
        task: dict[str, Any] = {"data": data}
        if row.label is not None:
            data |= {"labelled_by": row.who, "labelled_at": row.when}
            choice = {
                "from_name": "label",
                "to_name": shown,
                "type": "choices",
                "value": {"choices": [row.label]},
            }
            task["annotations"] = [{"result": [choice]}]
        tasks.append(task)
    return json.dumps(tasks, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Given:
    """A row of a file of answers: how it names its item, and what it says."""

    where: str
    names: Mapping[str, str]
    label: str
    who: str
    when_ms: int | None


@dataclass(frozen=True)
class Taken:
    """What became of a file of answers.

    Attributes:
        new: answers to the open query.
        known: answers that were there already, or are those of cycles that are over.
        empty: rows without a class.
    """

    new: int
    known: int
    empty: int


def take_file(
    path: Path,
    folder: Path,
    class_names: Sequence[str],
    *,
    n_complete: int,
    who: str | None = None,
) -> Taken:
    """Take the answers of a file, all or none.

    Args:
        path: CSV or JSON, in one of the forms that ``write`` gives.
        folder: ``annotations`` in the run's folder, whose lock the caller holds.
        class_names: of the run's data.
        n_complete: how many cycles of the run are complete: their answers stand.
        who: gave the answers that do not say who.

    Raises:
        UserError: an item that was not asked about, no class, two classes for one item, or another class than
            that of a cycle that is over.
    """
    desk = Desk(folder, class_names)
    asked: dict[tuple[str, str], tuple[Question, Item]] = {}
    for question in read_questions(folder):
        for item in question.items if question.kind == "items" else ():
            # Under both of its names: a file may have kept one of them only.
            asked[question.unit, item.name] = asked["item", str(item.index)] = question, item
    answers = AnswerFile(folder).read()
    counts: Counter[str] = Counter()
    said: dict[tuple[str, int], tuple[str, str]] = {}
    new: list[tuple[Question, int, Given]] = []
    for row in _read(path):
        if not row.label.strip():
            counts["empty"] += 1
            continue
        found = next((asked[pair] for pair in row.names.items() if pair in asked), None)
        if found is None:
            named = ", ".join(f"{unit} {name}" for unit, name in row.names.items()) or "no item"
            raise UserError(
                f"{row.where}: {named} was not asked about in this run. Nothing was taken; leave the row "
                "out, or name the run that asked."
            )
        question, item = found
        label = desk.choices.name(desk.choices.number(row.label, row.where))
        # An item may stand in several rows, as long as they agree.
        place = question.digest, item.number
        if place in said and said[place][0] != str(label):
            raise UserError(
                f"{row.where}: {item.name} has the class '{row.label}' here and another one in "
                f"{said[place][1]}. Nothing was taken; keep one of them."
            )
        said[place] = str(label), row.where
        standing_now = standing(answers, question.digest).get(item.number)
        if standing_now is not None and standing_now.label == label:
            counts["known"] += 1
        # The initial set is cycle -1: over as soon as any cycle is complete.
        elif question.cycle < n_complete and n_complete > 0:
            raise UserError(
                f"{row.where}: {item.name} was answered otherwise in cycle {question.cycle}, which is over: "
                f"its answer is part of the run. Nothing was taken; leave the row out."
            )
        else:
            new.append((question, item.number, row))
    # All rows are sound by now: a file is taken whole or not at all.
    for question, number, row in new:
        desk.take(
            question, {number: (row.label,)}, who=row.who or who, via="file", when_ms=row.when_ms
        )
    return Taken(len(new), counts["known"], counts["empty"])


def _read(path: Path) -> list[Given]:
    if not path.is_file():
        raise UserError(f"There is no file '{path}'. Expected CSV or Label Studio's JSON.")
    with explained(path, "read"):
        text = decoded(path)
    if text.lstrip().startswith(("[", "{")):
        return _read_json(text, path)
    try:
        return _read_csv(text, path)
    except csv.Error as error:  # a cell without end
        raise UserError(f"'{path}' is not a table: {error}. Save it as CSV in UTF-8.") from error


def _read_csv(text: str, path: Path) -> list[Given]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns = [name.strip() for name in reader.fieldnames or []]
    units = [name for name in UNITS if name in columns]
    if not units or "class" not in columns:
        raise UserError(
            f"'{path}' has the columns {', '.join(columns) or 'none'}; expected file, row or item, and "
            "class: the form of 'alharness labels export'."
        )
    rows = []
    for values in reader:
        if None in values:
            raise UserError(
                f"'{path}' line {reader.line_num} has more cells than there are columns. Put what holds the "
                f"sign '{delimiter}' in quotes."
            )
        row = {name.strip(): (value or "").strip() for name, value in values.items()}
        where = f"'{path}' line {reader.line_num}"
        names = {unit: row[unit] for unit in units if row[unit]}
        when = row.get("when", "")
        rows.append(Given(where, names, row["class"], row.get("who", ""), _ms(when, where)))
    return rows


def _read_json(text: str, path: Path) -> list[Given]:
    """Label Studio's JSON or JSON-MIN, as it exports them."""
    try:
        tasks = parse_json(text)
        return [
            _task(task, f"'{path}' task {number}")
            for number, task in enumerate(tasks if isinstance(tasks, list) else [tasks], start=1)
        ]
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise UserError(
            f"'{path}' is not Label Studio's JSON ({type(error).__name__}: {error}). Export it there as JSON "
            "or JSON-MIN."
        ) from error


def _task(task: Mapping[str, Any], where: str) -> Given:
    data = task.get("data", task)
    names = {unit: str(data[unit]) for unit in UNITS if data.get(unit) is not None}
    if "data" not in task:  # JSON-MIN has no annotations: a key for each control
        label, who, when = (
            task.get("label", ""),
            task.get("annotator", ""),
            task.get("created_at", ""),
        )
    else:
        given = [found for found in task.get("annotations", []) if not found.get("was_cancelled")]
        if not given:
            return Given(where, names, "", "", None)
        last = given[-1]  # the one that was made last
        choices = [
            part["value"]["choices"] for part in last["result"] if "choices" in part["value"]
        ]
        label = choices[0][0] if choices else ""
        by = last.get("completed_by", data.get("labelled_by", ""))
        who = by.get("email", by.get("id", "")) if isinstance(by, Mapping) else by
        when = last.get("updated_at", last.get("created_at", data.get("labelled_at", "")))
    return Given(where, names, str(label), str(who), _ms(str(when), where))


def _ms(text: str, where: str) -> int | None:
    """A date and time as milliseconds since 1970; None for none."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"{where}: expected a date and time as 2026-11-30T14:00:00+00:00; found '{text}'."
        ) from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)

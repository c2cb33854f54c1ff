"""What a column of texts means: numbers, words, or something that a person must decide.

A column is numbers only if every one of its texts is written as a number is: ``007`` is a code, ``1,5`` may
be one and a half or fifteen. What reads as something else than words (money, units, dates, ranges) does not
become as many categories as there are rows, but named, with the settings that decide it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from alharness.lazily import numpy as np
from alharness.tasks.words import Column, typed_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: More categories than this are names or numbers of rows and tell nothing.
MAX_CATEGORIES = 100
#: Up to so many different texts with units or of ranges are as good as categories.
FEW = 10
#: Texts that mean "nothing here" among numbers, and may mean it among words (pandas' and R's lists).
ABSENT = frozenset(
    {"na", "n/a", "nan", "-nan", "null", "none", "nil", "nat", "<na>", "1.#qnan"}
    | {"#n/a", "#na", "#null!", "#value!", "#div/0!"}
)
_PLAIN = r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)"
#: As programs write them: with a point before the e, or a sign after it. ``12e3`` is as likely a code.
_SCIENTIFIC = r"[+-]?(?:(?:\d+\.\d*|\.\d+)[eE][+-]?\d+|\d+[eE][+-]\d+)"
_NUMBER = rf"(?:{_PLAIN}|{_SCIENTIFIC}|[+-]?(?i:inf|infinity))"
_ZEROS = r"[+-]?0\d+(?:\.\d*)?"
_E_CODE = r"[+-]?\d+[eE]\d+"
_WHOLE = r"-?(?:0|[1-9]\d*)"
_WHOLE_FLOAT = r"[+-]?\d+(?:\.0*)?"
#: What earlier versions took for numbers.
_ONCE_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
#: Decimal commas, thousands, per cent, the typographer's minus, a bookkeeper's brackets for it.
_GROUPED = r"(?:\d{1,3}(?:[,' .]\d{3})+(?:[.,]\d+)?|\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?\s*%?"
_LOCAL = rf"(?:[+−-]?{_GROUPED}|\({_GROUPED}\))"
_MONTH = r"(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_DATE = (
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
    rf"|\d{{1,2}}[- ]{_MONTH}\.?[- ,]+\d{{2,4}}|{_MONTH}\.? \d{{1,2}},? \d{{4}}|{_MONTH}[- ]\d{{2,4}})"
    r"(?:[ T].*)?"
)
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:\s*(?i:am|pm))?"
_CURRENCY = r"(?:[$€£¥₹]|(?:USD|EUR|GBP|CHF|JPY)\b)"
_AMOUNT = r"\d[\d,.' ]*(?:\s?[kKmMbB]n?)?"
_MONEY = rf"(?:[+-]?\s*{_CURRENCY}\s*[+-]?{_AMOUNT}|\(?[+-]?{_AMOUNT}\s*{_CURRENCY}\)?)"
_CENSORED = r"(?:[<>≤≥]=?\s*[+-]?[\d.,]+|[\d.,]+\s*\+)"
_RANGE = r"[\[(]?\s*[+-]?[\d.,]+\s*(?:-|–|—|to|,|\.\.)\s*[+-]?[\d.,]+\s*[\])]?"
_UNIT = r"[+-]?\d[\d.,]*\s*[a-zA-Zµ°Ωμ][a-zA-Z0-9µ°Ωμ/²³^]*(?: [a-zA-Z]+)?"
_VECTOR = r"\[[^\[\]]*\]"


@dataclass(frozen=True)
class Wishes:
    """What the user says of columns.

    Attributes:
        categories: names of columns whose texts are words, whatever they look like.
        numbers: names of columns whose texts are numbers, however they are written.
        gaps: further texts that mean that nothing is there.
        decimal: the sign before decimals.
        implied: texts that mean a gap in some column of the file, and so in all whose texts are not said to
            be words.
    """

    categories: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    gaps: frozenset[str] = frozenset()
    decimal: str = "."
    implied: frozenset[str] = frozenset()

    def gaps_of(self, column: Column) -> NDArray[np.bool_]:
        """Which words of a column mean that nothing is there, bool ``[W]``."""
        further = self.gaps | (frozenset() if column.name in self.categories else self.implied)
        return column.blank | column.among(further) if further else column.blank


@dataclass(frozen=True)
class Meaning:
    """A column as it is understood.

    Attributes:
        values: numbers (int64 or float64, NaN for a gap) or texts (None for a gap), ``[N]``.
        kind: in a word, for the preview.
        gaps: bool ``[N]``.
        trouble: why it cannot be used as it is, and the settings that help; None where it can.
        doubt: what a person should look at.
        changed: whether alharness 0.2 read it otherwise.
        absent: words that mean a gap here, because they stand among numbers.
    """

    values: Any
    kind: str
    gaps: NDArray[np.bool_]
    trouble: str | None = None
    doubt: str | None = None
    changed: bool = False
    absent: frozenset[str] = frozenset()


def meaning_of(column: Column, wishes: Wishes) -> Meaning:
    """A feature: numbers, words, vectors, or what is in the way of that."""
    name, typed = column.name, typed_name(column.name)
    gaps = wishes.gaps_of(column)
    absent = column.among(ABSENT) & ~gaps & column.there
    # What is a gap, or may be one, decides nothing about the rest.
    there = column.there & ~gaps & ~absent

    def written(pattern: str) -> bool:
        return bool(column.like(pattern)[there].all())

    def words(kind: str = "words", trouble: str | None = None, doubt: str | None = None) -> Meaning:
        return Meaning(
            column.texts(gaps),
            kind,
            column.rows(gaps),
            trouble,
            doubt,
            _was_read_otherwise(column, gaps),
        )

    # What the user says goes before anything that the texts look like.
    if name in wishes.categories:
        return words()
    if name in wishes.numbers:
        return _as_numbers(column, gaps | absent, wishes)
    if not there.any():
        return Meaning(column.numbers(gaps | absent), "nothing", column.rows(gaps | absent))
    number = _NUMBER if wishes.decimal == "." else _NUMBER.replace(r"\.", ",")
    # 1.500 may be fifteen hundred where commas are decimal signs; 1.5 and 0.123 are what they are.
    points = written(_NUMBER) and not written(rf"{_WHOLE}|[+-]?[1-9]\d{{0,2}}(?:\.\d{{3}})+")
    # From the strictest form on: nobody is asked about what is written as numbers are.
    if points or written(number):
        as_is = wishes.decimal == "." or points
        read = None if as_is else lambda text: float(text.replace(",", "."))
        numbers, at = column.numbers(gaps | absent, read), column.rows(gaps | absent)
        return Meaning(numbers, "numbers", at, absent=frozenset(column.said(absent)))
    # Behind plain numbers: only a column with some zeros in front comes here.
    if written(f"{number}|{_ZEROS}"):
        return words(
            "codes",
            doubt=f"{column.first(column.like(_ZEROS) & there)}: taken for codes, because of the zeros in "
            f"front; task.numbers={typed} makes numbers of them",
        )
    if written(f"{number}|{_E_CODE}"):
        return words(
            "codes or numbers",
            f"is numbers with an e or codes, {column.first(column.like(_E_CODE) & there)}: set "
            f"task.numbers={typed} if they are numbers, task.categories={typed} if they are words",
        )
    if written(r"(?i:true|false)"):
        folded = column.texts(gaps).str.capitalize()
        return Meaning(folded, "true or false", column.rows(gaps))
    if written(_VECTOR):
        return _vectors(column, gaps | absent)
    trouble = _trouble(column, there | absent, typed, wishes)
    if trouble is not None:
        return words(*trouble)
    if absent.any():
        return words("words", _or_nothing("a word", column, absent))
    n_words = int(there.sum())
    if n_words > MAX_CATEGORIES:
        long = np.mean([len(text.split()) for text in column.bare.slice(0, 200).to_pylist()]) > 4
        return words(
            "free text" if long else "names",
            f"has {n_words:,} different texts; expected at most {MAX_CATEGORIES} categories. "
            + (
                "Free text is not supported: make numbers of it (examples/text_rows.py). "
                if long
                else ""
            )
            + f"Leave it out with task.drop={typed}, or group them",
        )
    return words()


def _or_nothing(what: str, column: Column, absent: NDArray[np.bool_]) -> str:
    """The trouble with ``NA`` among words: the name of a region, or no region at all?"""
    said = column.said(absent)
    return (
        f"says {' and '.join(map(repr, said))} in {column.n_rows(absent):,} rows: {what}, or nothing there? "
        f"Set task.categories={typed_name(column.name)} if it is {what}, or task.gaps={','.join(said)} if it "
        "means that nothing is there"
    )


def _trouble(
    column: Column,
    there: NDArray[np.bool_],
    typed: str,
    wishes: Wishes,
) -> tuple[str, str] | None:
    """What reads as numbers or dates in half of the rows and more, but is not written as they are."""
    n, n_words = column.n_rows(there), int(there.sum())
    number = column.like(_NUMBER)

    def share(found: NDArray[np.bool_]) -> float:
        return column.n_rows(found & there) / max(1, n)

    either = f"task.categories={typed} if they are categories, or task.drop={typed}"

    def told(
        kind: str, found: NDArray[np.bool_], remedy: str, odd: NDArray[np.bool_] | None = None
    ) -> str:
        odd = there & ~found if odd is None else odd
        if not (odd & there).any():
            odd = there & found
        return (
            f"reads as {kind} in {column.n_rows(found & there):,} of {n:,} rows, but not as a "
            "column of them; "
            f"{column.first(odd & there)}. {remedy} {either}"
        )

    bounds = column.like(_CENSORED)
    # Laboratories write <0.5 among numbers: a few bounds are enough where the rest are numbers.
    if (bounds & there).any() and share(bounds | number) >= 0.9:
        return "bounds", told("a number and a bound", bounds | number, "Set", bounds)
    local = column.like(rf"{_LOCAL}|{_NUMBER}")
    dates = column.like(_DATE)
    if share(dates) >= 0.5:
        return "dates", told(
            "a date", dates, "Make numbers of them (days since the first, for instance), or set"
        )
    if share(local) >= 0.5:
        if (local | ~there).all():
            plain = column.like(rf"{_NUMBER}|{_ZEROS}")
            comma = column.like(r"[+-]?\d*,\d+|[+-]?\d+,\d*|[+-]?\d{1,3}(?:[. ]\d{3})+(?:,\d+)?")
            if (comma | plain | ~there).all() and (comma & there).any() and wishes.decimal == ".":
                remedy = "Set task.decimal=, if a comma is the decimal sign,"
                if (column.like(rf"{_NUMBER}|[+-]?\d{{1,3}}(?:,\d{{3}})+") | ~there).all():
                    remedy += f" task.numbers={typed} if it parts thousands,"
            else:
                remedy = f"Set task.numbers={typed} to make numbers of them,"
            return "numbers of another form", told("a number", local, remedy, local & ~plain)
        odd = column.bare[int(column.which[int(column.rows(there & ~local).argmax())])].as_py()
        return "numbers and words", told(
            "a number",
            local,
            f"Set task.gaps={typed_name(odd)} if it means that nothing is there,",
        )
    for kind, pattern, few in (
        ("an amount of money", _MONEY, False),
        ("a range", _RANGE, True),
        ("a time", _CLOCK, True),
        ("a number with a unit", _UNIT, True),
    ):
        found = column.like(pattern)
        # A few different ranges or times are groups that somebody made, and good categories.
        if share(found) < 0.5 or (few and n_words <= FEW):
            continue
        readable = kind in ("an amount of money", "a number with a unit")
        remedy = f"Set task.numbers={typed} to make numbers of them," if readable else "Set"
        return kind.partition(" ")[2], told(kind, found, remedy, found & ~number)
    return None


def _as_numbers(column: Column, gaps: NDArray[np.bool_], wishes: Wishes) -> Meaning:
    """What the user says are numbers: without currency, unit, per cent and signs between thousands."""
    units: set[str] = set()

    def read(text: str) -> float:
        bare = re.sub(rf"{_CURRENCY}|[\s']", "", text).replace("−", "-")
        matched = re.fullmatch(r"(\(?[+-]?)([\d.,]+(?:[eE][+-]?\d+)?)(.*?)\)?", bare)
        if matched is None:
            raise ValueError(text)
        sign, digits, unit = matched.groups()
        units.add(unit)
        thousands = "," if wishes.decimal == "." else "."
        # 1,23 is no number where commas part thousands: rather refused than read as 123.
        if thousands in digits:
            if not re.fullmatch(rf"\d{{1,3}}(\{thousands}\d{{3}})+(\{wishes.decimal}\d*)?", digits):
                raise ValueError(text)
            digits = digits.replace(thousands, "")
        # Bookkeepers write (1,200) or 1,200- for what is below zero.
        value = float(digits.replace(wishes.decimal, "."))
        return -value if sign.startswith("(") or sign.endswith("-") else value

    trouble = None
    try:
        values = column.numbers(gaps, read)
    except ValueError as error:
        other = "," if wishes.decimal == "." else "."
        hint = (
            f"Set task.decimal={other} if that is the decimal sign"
            if other in str(error)
            else "Mend it"
        )
        trouble = f"says {str(error)[:60]!r}, which is no number. {hint}"
    else:
        if len(units) > 1:
            listed = ", ".join(repr(unit) for unit in sorted(units)[:4])
            trouble = f"has numbers with several units ({listed}). Bring them to one"
    if trouble is None:
        return Meaning(values, "numbers", column.rows(gaps))
    typed = typed_name(column.name)
    trouble += f", or set task.categories={typed} or task.drop={typed}"
    return Meaning(column.texts(gaps), "words", column.rows(gaps), trouble)


def _vectors(column: Column, gaps: NDArray[np.bool_]) -> Meaning:
    """Lists of numbers, as data frames of embeddings are written: ``[0.1, 0.2]`` or ``[0.1 0.2]``."""
    import pandas

    words: list[Any] = []
    for text, is_gap in zip(column.bare.to_pylist(), gaps, strict=True):
        try:
            inside = ", ".join(re.split(r"[,\s]+", text[1:-1].strip()))
            words.append(
                None if is_gap or not text else np.array(json.loads(f"[{inside}]"), dtype=float)
            )
        except ValueError:
            typed = typed_name(column.name)
            return Meaning(
                column.texts(gaps), "lists", column.rows(gaps),
                f"holds lists that are no vectors of numbers, for instance {text[:60]!r}. Set "
                f"task.drop={typed}",
            )  # fmt: skip
    table = np.empty(len(words), dtype=object)
    table[:] = words
    return Meaning(
        pandas.Series(table[column.which], name=column.name), "vectors", column.rows(gaps)
    )


def _was_read_otherwise(column: Column, gaps: NDArray[np.bool_]) -> bool:
    """Whether words of now were numbers for alharness 0.2, which refused whatever has a gap."""
    if (gaps & column.there).any() or not column.like(_ONCE_NUMBER).all():
        return False
    if column.like(_WHOLE).all() or column.there.sum() > MAX_CATEGORIES:  # refused then as now
        return False
    # As categories their texts were those of the numbers: '7' for '007', '1.5' for '1.50'.
    texts = [
        word for word, there in zip(column.bare.to_pylist(), column.there, strict=True) if there
    ]
    return any(str(float(text)) != text for text in texts)


@dataclass(frozen=True)
class Classes:
    """The column of classes.

    Attributes:
        labels: whole numbers or texts ``[N]``; anything where there is a gap.
        names: of the classes 0, 1, ... where labels are their numbers.
        gaps, trouble, doubt, changed: as in ``Meaning``.
    """

    labels: NDArray[Any]
    gaps: NDArray[np.bool_]
    names: tuple[str, ...] | None = None
    trouble: str | None = None
    doubt: str | None = None
    changed: bool = False


def classes_of(column: Column, wishes: Wishes) -> Classes:
    """Classes are the file's texts: ``01`` and ``1`` are two."""
    gaps = wishes.gaps_of(column)
    absent = column.among(ABSENT) & ~gaps & column.there
    there = column.there & ~gaps
    is_word = column.name in wishes.categories
    numeric = bool(column.like(_NUMBER)[there & ~absent].all()) and bool((there & ~absent).any())
    if numeric and not is_word:
        # NA among numbers is none of them, and so no class.
        gaps, there = gaps | absent, there & ~absent
    rows = column.rows(gaps)

    def no_classes(trouble: str) -> Classes:
        return Classes(column.which, rows, trouble=trouble)

    # NA among words may be a class of its own: only a person knows.
    if absent.any() and not (numeric or is_word):
        return no_classes(_or_nothing("a class", column, absent))
    n, n_classes = column.n_rows(there), int(there.sum())
    # Fewer than three items to a class cannot be split, whatever they are; digits and letters stay.
    many = n_classes > 20 and 3 * n_classes > n
    if numeric and not is_word and not bool(column.like(_WHOLE_FLOAT)[there].all()):
        odd = there & ~column.like(_WHOLE_FLOAT)
        named = f"; task.categories={typed_name(column.name)} takes each number for a class"
        return no_classes(
            f"holds fractions ({column.first(odd)}), which are no classes: regression is not supported. Name "
            "another one with task.target, or make classes of it (ranges, for instance)"
            + ("" if many else named)
        )
    if many:
        what = "a quantity or a number of rows" if numeric else "names or free text"
        return no_classes(
            f"has {n_classes:,} different values in {n:,} rows, which are no classes but {what}: regression "
            "and texts as targets are not supported. Name another one with task.target, or make classes of it"
        )
    if bool(column.like(_WHOLE)[there].all()):
        words_there = zip(column.bare.to_pylist(), there, strict=True)
        values = np.array([int(word) if is_there else 0 for word, is_there in words_there])
        if values.dtype.kind in "iu":  # else beyond 64 bits: classes by their texts
            return Classes(values[column.which], rows)
    if numeric and not is_word:
        return _by_value(column, there, rows)
    words = np.array(column.words.to_pylist(), dtype=np.str_)
    bare = np.array(column.bare.to_pylist(), dtype=np.str_)
    # Nobody sees these blanks, and the classes would be two all the same.
    if len(np.unique(bare[there])) < n_classes:
        texts = words[there].tolist()
        padded = next(text for text in texts if text != text.strip())
        return no_classes(
            f"has classes that differ by blanks only: '{padded}' and '{padded.strip()}'. Strip them"
        )
    # 0.2 called bools 0 and 1, and read 01 as 1: such classes have other names now, so another key.
    once_bool = bool(column.like("True|TRUE|true|False|FALSE|false")[there].all())
    zeros = column.like(_ZEROS) & there
    doubt = None
    if zeros.any() and bool(column.like(rf"{_ZEROS}|{_NUMBER}")[there].all()):
        doubt = f"classes are the file's texts, with zeros in front: {column.first(zeros)}"
    once_numbers = bool(column.like(r"[+-]?\d+")[there].all())
    words[~there] = ""
    return Classes(words[column.which], rows, doubt=doubt, changed=once_bool or once_numbers)


def _by_value(column: Column, there: NDArray[np.bool_], gaps: NDArray[np.bool_]) -> Classes:
    """Numbers that are classes: called as the file calls them, in the order of their values."""
    texts = column.bare.to_pylist()
    at = sorted(np.flatnonzero(there).tolist(), key=lambda place: float(texts[place]))
    for one, other in pairwise(at):
        if float(texts[one]) == float(texts[other]):
            return Classes(
                column.which,
                gaps,
                trouble=f"has one number in two spellings, '{texts[one]}' and '{texts[other]}'. Write it in "
                f"one, or set task.categories={typed_name(column.name)} if they are two classes",
            )
    order = np.zeros(len(texts), dtype=np.int64)
    order[at] = np.arange(len(at))
    return Classes(order[column.which], gaps, tuple(texts[place] for place in at))

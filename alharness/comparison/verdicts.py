"""A claim and what was found of it: one vocabulary for the paper's claims on accuracy and all on time.

``holds`` and ``fails`` are decided by what was measured, ``undecided`` needs more of it, and what is
``not measured`` has no verdict at all. Kinds of claims, and how each is measured, lie with what they
measure: ``comparison.claims`` and ``scaling.claims``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar
from xml.etree import ElementTree

from pydantic import BaseModel, Field, ValidationError

from alharness.errors import UserError, unknown_name
from alharness.files import read_toml
from alharness.frozen import Frozen

Word = Literal["holds", "fails", "undecided", "not measured"]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: the estimate.
        low, high: 95 % bootstrap interval over repeats; equal to the value for exact counts. Of three
            repeats it is their range, which holds the true median in three cases of four; of five
            it is right in 94 of 100.
        n: numbers that it rests on.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.value:.3g}"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


class Claim(Frozen):
    """What every claim says, as its file tells it; how it is measured is added by kind."""

    id: str = Field(description="its short name, each once")
    where: str = Field(description="section, figure or table of the paper; or ours")
    text: str = Field(description="the claim in a sentence")
    kind: str = Field(description="what is measured")
    must: bool = Field(False, description="failing it makes the exit code 1")


@dataclass(frozen=True)
class Verdict:
    """A claim beside what was measured.

    Attributes:
        claim: the claim.
        word: the verdict.
        evidence: in words: the number, where it comes from, or why there is none.
        estimate: the number, where the claim is about one.
        subject: which of several settings it was judged on, one or more; empty where there is one.
        replication: probability that a second laboratory with as many seeds comes to the same verdict.
    """

    claim: Claim
    word: Word
    evidence: str
    estimate: Estimate | None = None
    subject: str = ""
    replication: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain: dict[str, Any] = {
            "id": self.claim.id,
            "where": self.claim.where,
            "claim": self.claim.text,
            "must": self.claim.must,
            "verdict": self.word,
            "measured": self.evidence,
        }
        if self.subject:
            plain["settings"] = self.subject
        if self.replication is not None:
            plain["replication"] = self.replication
        if self.estimate is not None:
            ends = {name: getattr(self.estimate, name) for name in ("value", "low", "high")}
            # JSON has no infinity: "inf", as in the CSV; what is not defined is null.
            plain |= {
                name: value if math.isfinite(value) else None if math.isnan(value) else str(value)
                for name, value in ends.items()
            }
        return plain


Block = TypeVar("Block", bound=BaseModel)


def read_blocks(path: Path, known: Mapping[str, type[BaseModel]]) -> dict[str, list[Any]]:
    """A file of claims: its ``[[claim]]`` and other blocks, each as its model.

    Args:
        path: a TOML file.
        known: name of a block -> what it has to say.

    Raises:
        UserError: no such file, not TOML, a block or a key that is not known, an ``id`` or ``name``
            that is there twice, or something that a block needs and does not say.
    """
    if not path.is_file():
        raise UserError(f"No claims at '{path}'. Give an existing file to --claims.")
    content = read_toml(path)
    found: dict[str, list[Any]] = {name: [] for name in known}
    for name, blocks in content.items():
        if name not in known:
            raise _in_file(path, unknown_name("block", name, known))
        if not isinstance(blocks, list) or not all(isinstance(item, dict) for item in blocks):
            raise UserError(f"'{path}': expected blocks [[{name}]] with two brackets each.")
        found[name] = [
            _block(path, name, place, item, known[name]) for place, item in enumerate(blocks, 1)
        ]
        titles = [_title(item) for item in blocks]
        for title in titles:
            if titles.count(title) > 1:
                raise UserError(
                    f"'{path}': two blocks [[{name}]] are called '{title}'. Rename one."
                )
    return found


def _block(path: Path, name: str, place: int, item: Mapping[str, Any], model: type[Block]) -> Block:
    title = _title(item)
    where = f"[[{name}]] '{title}'" if title else f"[[{name}]] number {place}"
    try:
        return model.model_validate(item)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        # A misspelt key is told with the one that was meant.
        if first["type"] == "extra_forbidden":
            keys = [field.alias or key for key, field in model.model_fields.items()]
            raise _in_file(path, unknown_name(f"key in {where}:", key, keys)) from error
        raise UserError(f"'{path}': {where}: {key}: {first['msg'].lower()}.") from error


def _title(item: Mapping[str, Any]) -> str:
    """What a block is called."""
    return str(item.get("id") or item.get("name") or "")


def _in_file(path: Path, error: UserError) -> UserError:
    return UserError(f"'{path}': {error}")


def failed(verdicts: Sequence[Verdict], *, strict: bool = False) -> list[Verdict]:
    """Those that must hold and do not; ``strict``: also everything that was not measured."""
    return [
        v
        for v in verdicts
        if (v.claim.must and v.word == "fails") or (strict and v.word == "not measured")
    ]


def as_json(verdicts: Sequence[Verdict], **about: Any) -> str:
    """All verdicts for programs; ``about`` is put before them."""
    content = {**about, "claims": [verdict.as_dict() for verdict in verdicts]}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_junit(verdicts: Sequence[Verdict], *, strict: bool = False) -> str:
    """All verdicts as a JUnit file, which CI systems show claim by claim.

    What ``failed`` names is a failure. Anything else that does not hold is skipped, with its verdict:
    it is told, and stops nobody.
    """
    broken = {id(verdict) for verdict in failed(verdicts, strict=strict)}
    skipped = [v for v in verdicts if id(v) not in broken and v.word != "holds"]
    counts = {"tests": len(verdicts), "failures": len(broken), "skipped": len(skipped)}
    numbers = {name: str(count) for name, count in counts.items()}
    root = ElementTree.Element("testsuites", numbers)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "alharness claims", **numbers})
    for verdict in verdicts:
        claim = verdict.claim
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": _xml(claim.where), "name": _xml(claim.id)}
        )
        told = _xml(f"{claim.text}\n{verdict.evidence}")
        if verdict.word != "holds":
            kind = "failure" if id(verdict) in broken else "skipped"
            ElementTree.SubElement(case, kind, {"message": verdict.word}).text = told
        ElementTree.SubElement(case, "system-out").text = told
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    """Without the characters that XML cannot hold at all."""
    return "".join(c for c in text if c in "\t\n" or (c >= " " and not "\ud800" <= c <= "\udfff"))

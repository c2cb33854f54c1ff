"""Outcomes as a page: the rate by room, by family, and every survivor with its reason or without one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from mutation.places import ROOMS, ROOT

#: Mutants that change nothing a user could see, each with its reason.
ACCEPTED = Path(__file__).with_name("accepted.toml")

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant."""

    room: str
    file: str
    line: int
    family: str
    before: str
    after: str
    outcome: str
    tests: int
    of: int
    seconds: float
    by: str = ""

    @property
    def key(self) -> Key:
        return self.file, self.before, self.after

    @property
    def noticed(self) -> bool:
        return self.outcome in ("noticed", "did not end")

    @staticmethod
    def read(path: Path) -> list[Outcome]:
        """All outcomes of a file, the last of each mutant; none where there is no file."""
        if not path.exists():
            return []
        names = {field.name for field in fields(Outcome)}
        found: dict[Key, Outcome] = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            outcome = Outcome(**{k: v for k, v in json.loads(line).items() if k in names})
            found[outcome.key] = outcome
        return list(found.values())


def accepted(path: Path = ACCEPTED) -> dict[Key, str]:
    """Accepted mutants with their reasons.

    Raises:
        ValueError: a line is no longer in its file, so that the entry excuses nothing; or there is no reason.
    """
    found = {}
    for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]:
        lines = {
            line.strip() for line in (ROOT / entry["file"]).read_text(encoding="utf-8").splitlines()
        }
        if entry["before"] not in lines:
            raise ValueError(
                f"{path.name}: {entry['file']} has no line {entry['before']!r} any more"
            )
        if not entry["reason"].strip():
            raise ValueError(f"{path.name}: {entry['file']} {entry['before']!r} has no reason")
        found[entry["file"], entry["before"], entry["after"]] = entry["reason"]
    return found


def page(
    outcomes: Sequence[Outcome], reasons: Mapping[Key, str], *, seed: int, asked: int, budget: float
) -> str:
    """Markdown: rates by room and family, then the survivors."""
    survivors = [one for one in outcomes if not one.noticed]
    text = [
        f"{len(outcomes)} of {asked} mutants were tried (seed {seed}, at most {budget:g} CPU seconds of "
        "tests each).",
        "",
        _rates(
            "room",
            outcomes,
            reasons,
            [room for room in ROOMS if any(o.room == room for o in outcomes)],
        ),
        _rates("family", outcomes, reasons, sorted({one.family for one in outcomes})),
    ]
    if survivors:
        text += [
            "| survivor | before | after | tests that passed it | accepted because |",
            "| --- " * 5 + "|",
        ]
        text += [
            f"| `{one.file}:{one.line}` | `{_cell(one.before)}` | `{_cell(one.after)}` "
            f"| {one.tests} of {one.of} | {reasons.get(one.key, '**not accepted**')} |"
            for one in survivors
        ]
    return "\n".join(text) + "\n"


def _rates(
    by: str, outcomes: Iterable[Outcome], reasons: Mapping[Key, str], names: Sequence[str]
) -> str:
    rows = [f"| {by} | tried | noticed | rate | survivors accepted | left |", "| --- " * 6 + "|"]
    found = list(outcomes)
    for name in [*names, "all"]:
        those = [one for one in found if name in ("all", getattr(one, by))]
        n_noticed = sum(one.noticed for one in those)
        n_accepted = sum(not one.noticed and one.key in reasons for one in those)
        rate = f"{n_noticed / len(those):.0%}" if those else ""
        rows.append(
            f"| {name} | {len(those)} | {n_noticed} | {rate} | {n_accepted} "
            f"| {len(those) - n_noticed - n_accepted} |"
        )
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

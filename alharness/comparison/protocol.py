"""One protocol per comparison (R13): which runs differ in it, in what, and which split would part them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from alharness.errors import UserError, unknown_name
from alharness.files import flatten
from alharness.records import Run


def require_one_protocol(runs: Sequence[Run]) -> None:
    """Refuse runs whose protocol differs.

    Raises:
        UserError: names the fields, their values with a run for each, and the split that works.
    """
    values = differing_fields(runs)
    if not values:
        return
    told = [_kinds_of_runs(name, found, runs) for name, found in values.items()]
    split = " ".join(f"--split-by {name}" for name in _sufficient_split(list(values), values))
    raise UserError(
        f"Runs of '{runs[0].task}' with different protocols cannot be compared: {'; '.join(told)}. "
        f"Name the runs of one kind only, or compare each kind by itself: add {split}"
    )


def differing_fields(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Fields of the protocol in which runs differ, with the value of each run."""
    names = sorted({name for run in runs for name in run.protocol})
    values = {name: [run.protocol.get(name, NOT_RECORDED) for run in runs] for name in names}
    return {name: found for name, found in values.items() if len(set(found)) > 1}


#: What a run says of a field of the protocol that it does not have.
NOT_RECORDED = "(not recorded)"


def require_known(split_by: Sequence[str], runs: Sequence[Run]) -> None:
    """A field that no run has would split nothing, in silence."""
    if not split_by:
        return
    known = {name for run in runs for name in [*run.protocol, *run.spec.settings]}
    for name in split_by:
        if runs and name not in known:
            raise unknown_name("field of the runs", name, known)


def split_value(run: Run, name: str) -> str:
    """A field of the protocol, else of the spec (dotted)."""
    if name in run.protocol:
        return run.protocol[name]
    return str(run.spec.settings.get(name, "-"))


def told_value(value: str, values: Sequence[str]) -> str:
    """A value of the protocol for a reader: of one with parts, only the parts that differ."""
    parts = {text: _parts(text) for text in {value, *values}}
    if len(parts) < 2 or not all(found for found in parts.values()):
        return value
    names = sorted({name for found in parts.values() for name in found})
    differing = [name for name in names if len({found.get(name) for found in parts.values()}) > 1]
    return ", ".join(f"{name}={parts[value].get(name, '-')}" for name in differing) or value


def in_order(text: str) -> list[tuple[int, str]]:
    """Numbers inside names in their order: 40000 before 160000."""
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _kinds_of_runs(name: str, values: Sequence[str], runs: Sequence[Run]) -> str:
    """``'budget' is 60 in 3 runs ('runs/...'), 70 in 2 (...)``."""
    parts = []
    # One run for each value: enough to find the odd ones, short enough to be read.
    for value in sorted(set(values), key=in_order):
        of_kind = [run for run, own in zip(runs, values, strict=True) if own == value]
        count = "1 run" if len(of_kind) == 1 else f"{len(of_kind)} runs"
        parts.append(f"{told_value(value, values)} in {count} ('{of_kind[0].folder}')")
    return f"'{name}' is {', '.join(parts)}"


def _sufficient_split(differing: Sequence[str], values: Mapping[str, Sequence[str]]) -> list[str]:
    """As few fields as a greedy choice finds whose values leave one protocol in every group."""
    rows = list(zip(*(values[name] for name in differing), strict=True))
    kinds = len(set(rows))
    chosen: list[str] = []

    def n_groups(names: Sequence[str]) -> int:
        places = [differing.index(name) for name in names]
        return len({tuple(row[place] for place in places) for row in rows})

    # Greedy: at most a handful of fields differ, and any sufficient set is a fair hint.
    while n_groups(chosen) < kinds:
        rest = [name for name in differing if name not in chosen]
        chosen.append(max(rest, key=lambda name: n_groups([*chosen, name])))
    return chosen


def _parts(text: str) -> dict[str, str]:
    try:
        loaded = json.loads(text)
    except ValueError:
        return {}
    return (
        {key: str(part) for key, part in flatten(loaded).items()}
        if isinstance(loaded, dict)
        else {}
    )

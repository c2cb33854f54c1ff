"""Pictures of what was asked: synthetic samples above their matches (Fig. 2), and synthetic queries.

A strategy that keeps ``synthetic`` (uint8 ``[n, C, H, W]``, the first n items of its query) among its
query's arrays gets ``matches.png``; synthetic items that were annotated give ``synthetic.png``; one
that keeps ``lines`` (uint8 ``[n, P, C, H, W]``) gets ``lines.png``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from alharness.files import copy
from alharness.pictures.sheets import Row, as_uint8, contact_sheet, save
from alharness.pool import Pool
from alharness.records import Ledger, QueryLog, RunFolder
from alharness.tasks.base import TaskData

#: What captions such as "H 0.42  5" say.
MATCHES_LEGEND = (
    "H: entropy of the classifier's prediction in nats (the larger, the less certain). Behind it the label "
    "that came back for the match."
)
SYNTHETIC_LEGEND = "Below each synthetic image the label that came back for it."
LINES_LEGEND = (
    "Points of one line per cycle, in order; below each the label that came back, or its number where the "
    "line was not labelled."
)

#: Cycles and columns that a picture shows.
N_CYCLES, N_COLUMNS = 6, 10


def draw_pictures(
    folder: RunFolder, log: QueryLog, pool: Pool, data: TaskData, ledger: Ledger
) -> None:
    """All pictures of a finished run, into its folder."""
    matches = _match_rows(log, pool, data)
    if matches:
        save(contact_sheet(matches, MATCHES_LEGEND), folder.path / "matches.png")
    synthetic = _synthetic_rows(log, data)
    if synthetic:
        save(contact_sheet(synthetic, SYNTHETIC_LEGEND), folder.path / "synthetic.png")
    lines = _line_rows(log, data)
    if lines:
        save(contact_sheet(lines, LINES_LEGEND), folder.path / "lines.png")
    for entry in ledger.entries:
        samples = entry.details.get("samples")
        if samples is not None and Path(samples).is_file():
            copy(Path(samples), folder.path / f"{entry.name}-samples.png")


def _shown(log: QueryLog, name: str) -> list[int]:
    """Up to N_CYCLES cycles that have rows of the name: the first, the last and some between."""
    cycles = [cycle for cycle in log.cycles(name) if cycle >= 0]
    picks = np.linspace(0, len(cycles) - 1, num=min(N_CYCLES, len(cycles))).round().astype(int)
    return [cycles[pick] for pick in picks]


def _match_rows(log: QueryLog, pool: Pool, data: TaskData) -> list[Row]:
    rows: list[Row] = []
    for cycle in _shown(log, "array.synthetic"):
        synthetic = log.rows("array.synthetic", cycle)
        synthetic_entropy = log.rows("array.synthetic_entropy", cycle)
        indices, entropy = log.rows("asked", cycle), log.rows("entropy", cycle)
        labelled, targets = log.rows("indices", cycle), log.rows("targets", cycle)
        if synthetic is None or indices is None or entropy is None:
            continue
        if labelled is None or targets is None:
            continue
        # By index: whoever was rejected has no label, and those behind keep their own.
        labels = {i: data.class_names[t] for i, t in zip(labelled, targets, strict=True)}
        # One query has hundreds of items; a row of the picture has room for some.
        n = min(len(synthetic), N_COLUMNS)
        found = as_uint8(pool.gather(indices[:n]).cpu())
        before = ["" for _ in range(n)]
        if synthetic_entropy is not None:
            before = [f"H {value:.2f}" for value in synthetic_entropy[:n]]
        rows.append(Row(f"cycle {cycle}\nsynthetic", list(synthetic[:n]), before))
        captions = [
            f"H {entropy[i]:.2f}  {labels.get(index, 'no label')}"
            for i, index in enumerate(indices[:n])
        ]
        rows.append(Row("match", list(found), captions))
    return rows


def _synthetic_rows(log: QueryLog, data: TaskData) -> list[Row]:
    rows: list[Row] = []
    for cycle in _shown(log, "items"):
        items, targets = log.rows("items", cycle), log.rows("item_targets", cycle)
        if items is None or targets is None or items.ndim != 4:  # latent codes are no pictures
            continue
        n = min(len(items), N_COLUMNS)
        captions = [data.class_names[target] for target in targets[:n]]
        rows.append(Row(f"cycle {cycle}", list(as_uint8(torch.from_numpy(items[:n]))), captions))
    return rows


def _line_rows(log: QueryLog, data: TaskData) -> list[Row]:
    """One line per shown cycle, with the label of each point where the points were labelled."""
    rows: list[Row] = []
    for cycle in _shown(log, "array.lines"):
        lines, targets = log.rows("array.lines", cycle), log.rows("item_targets", cycle)
        if lines is None or len(lines) == 0:
            continue
        n_points = lines.shape[1]
        captions = [str(number + 1) for number in range(n_points)]
        n_rejected = 0 if targets is None else _n_asked(log, cycle) - len(targets) // n_points
        if targets is not None and n_rejected == 0:
            captions = [data.class_names[target] for target in targets[:n_points]]
        rows.append(Row(f"cycle {cycle}", list(lines[0]), captions))
    return rows


def _n_asked(log: QueryLog, cycle: int) -> int:
    """Lines that were asked about in a cycle."""
    asked = log.rows("asked", cycle)
    return 0 if asked is None else len(asked)

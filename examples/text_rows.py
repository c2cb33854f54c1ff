"""Texts as rows of numbers, for strategies and classifiers that know no words: TF-IDF and SVD.

    python examples/text_rows.py reviews.csv text label rows.npz
    alharness run --strategy margin --dataset npz:rows.npz --set learner.kind=linear

alharness takes images and rows of numbers; a column of free text is refused by ``table:``, not guessed at.
Any encoder does: put a sentence encoder of your own in ``encoded`` for real work.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

N_NUMBERS = 50


def encoded(texts: Sequence[str]) -> np.ndarray:
    """Float32 ``[N, D]``, each of length 1; labels have no say in it, so all texts may be used."""
    counts = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(texts)
    # As many directions as there can be, and no more than are useful.
    size = min(N_NUMBERS, counts.shape[1] - 1, counts.shape[0] - 1)
    rows = TruncatedSVD(size, random_state=0).fit_transform(counts)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.maximum(lengths, 1e-12)).astype(np.float32)


def main(table: str, text: str, label: str, target: str) -> None:
    """Read ``table``, write ``target``: items ``x`` and classes ``y``, blank where there is none."""
    with Path(table).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = np.array([row[label] for row in rows])
    np.savez(target, x=encoded([row[text] for row in rows]), y=labels)
    print(f"{len(rows):,} texts of {len(set(labels.tolist()))} classes: {target}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Holm's correction of a comparison's tables equals that of statsmodels, on plain and on awkward p values."""

from __future__ import annotations

import numpy as np
import pytest

from alharness.comparison.paired_tests import holm

multitest = pytest.importorskip("statsmodels.stats.multitest", reason="pip install statsmodels")

AWKWARD = [[1.0, 1.0, 1.0], [0.5], [0.0001, 0.0001, 0.9], [0.05, 0.05, 0.05, 0.05], [1e-300, 1.0]]


@pytest.mark.parametrize("seed", range(4))
def test_drawn_families(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.uniform(size=rng.integers(1, 12)).tolist()
    expected = multitest.multipletests(p, method="holm")[1]
    assert holm(p) == pytest.approx(expected.tolist(), abs=1e-15)


@pytest.mark.parametrize("p", AWKWARD)
def test_awkward_families(p: list[float]) -> None:
    expected = multitest.multipletests(p, method="holm")[1]
    assert holm(p) == pytest.approx(expected.tolist(), abs=1e-15)

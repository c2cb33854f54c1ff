"""Rows of a file: whether the model that made them still gives them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from alharness.errors import UserError
from alharness.matching import given
from alharness.matching.given import PROBED, GivenRows
from alharness.pool import ArrayPool


@pytest.mark.parametrize("n", [PROBED - 2, PROBED, PROBED + 3])
def test_the_model_is_asked_again_about_the_first_items_only(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def embed(images: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        return images.flatten(1)

    monkeypatch.setattr(given, "load_embedder", lambda name, device: embed)
    pool = ArrayPool(torch.arange(n * 4, dtype=torch.uint8).view(n, 1, 2, 2))
    rows = pool.gather(torch.arange(n)).flatten(1)
    origin = {"model": "mine"}
    assert GivenRows(Path("rows.npz"), "digest", rows, origin).placing(pool) is embed
    assert asked == [min(n, PROBED)]
    with pytest.raises(UserError, match="the model 'mine' gives other rows"):
        GivenRows(Path("rows.npz"), "digest", rows + 1, origin).placing(pool)

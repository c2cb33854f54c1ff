"""Queries: what a strategy sends to the oracle.

Shape letters: Q items of a query, P points of a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Query:
    """What every query carries beside the items themselves.

    Attributes:
        diagnostics: numbers for the cycle's record (entropy before and after a search, ...).
        arrays: small arrays for the record's file, first axis = items of the query
            (synthetic images beside their matches, ...). Kept small by the strategy.
    """

    diagnostics: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict, kw_only=True)

    def __len__(self) -> int:
        raise NotImplementedError


@dataclass(frozen=True)
class PoolQuery(Query):
    """Pool items by index, int64 ``[Q]`` on the CPU, distinct, none labelled yet."""

    indices: torch.Tensor

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class ImageQuery(Query):
    """Synthetic items, float32 ``[Q, ...]``, to be looked at and labelled (GAAL)."""

    items: torch.Tensor

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class LineQuery(Query):
    """Lines of synthetic items, each annotated as one (ADBA).

    Attributes:
        points: what joins the training set, float32 ``[Q, P, ...]`` (latent codes).
        images: what the annotator looks at, float32 ``[Q, P, C, H, W]``.
        pool_indices: pool items the lines run through, int64 ``[Q]``.
        answer: what the annotator gives back for a line: ``labels`` of all its points, or the
            ``boundary`` point where the class changes and the label of the pool item.
    """

    points: torch.Tensor
    images: torch.Tensor
    pool_indices: torch.Tensor
    answer: Literal["labels", "boundary"] = "labels"

    def __len__(self) -> int:
        return len(self.points)

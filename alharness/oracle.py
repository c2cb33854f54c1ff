"""Queries and the oracle: the sole holder of the hidden targets.

A query is what a strategy sends; the annotation (``labelled.py``) is what comes back. Pool items are
answered from the hidden targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from alharness.labelled import Annotation
from alharness.pool import Pool
from alharness.progress import Progress
from alharness.tasks.base import TaskData
from alharness.timing import Ledger

if TYPE_CHECKING:
    from alharness.artefacts import ArtefactStore


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
    """

    points: torch.Tensor
    images: torch.Tensor
    pool_indices: torch.Tensor

    def __len__(self) -> int:
        return len(self.points)


class OracleSettings(BaseModel):
    """How synthetic items are annotated; pool items are always answered from the hidden targets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["hard", "abstain", "noisy", "human"] = Field(
        "hard", description="how an image that is not in the pool gets its label"
    )


class Oracle:
    """Answers queries and counts what it was asked.

    Args:
        targets: the hidden classes of all pool items, int64 ``[N]``.
        n_classes: number of classes.
    """

    def __init__(self, targets: NDArray[np.int64] | torch.Tensor, n_classes: int) -> None:
        self._targets = torch.as_tensor(targets, dtype=torch.int64)
        self.n_classes = n_classes

    def annotate(self, query: Query, *, cycle: int) -> Annotation:
        """Labels for a checked query."""
        if isinstance(query, PoolQuery):
            return Annotation(
                indices=query.indices,
                targets=self._targets[query.indices],
                n_asked=len(query),
                cost=float(len(query)),
            )
        raise NotImplementedError(f"this oracle cannot annotate a {type(query).__name__}")


def make_oracle(
    data: TaskData,
    pool: Pool,
    test: Pool,
    *,
    settings: OracleSettings,
    artefacts: ArtefactStore,
    ledger: Ledger,
    progress: Progress,
    seed: int,
    folder: Path,
) -> Oracle:
    """The oracle of a run: the only place besides evaluation that the targets go to."""
    return Oracle(data.pool_targets, data.n_classes)

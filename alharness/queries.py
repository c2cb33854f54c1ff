"""Queries: what a strategy sends to the oracle, and what each kind of query knows of itself.

Shape letters: Q items of a query, P points of a line.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import torch
from numpy.typing import NDArray

from alharness.pool import Pool

Answer_co = TypeVar("Answer_co", covariant=True)


class Answers(Protocol[Answer_co]):
    """Who answers queries: one method per kind."""

    def to_items(self, query: PoolQuery, cycle: int) -> Answer_co:
        """Labels of pool items."""

    def to_images(self, query: ImageQuery, cycle: int) -> Answer_co:
        """Labels of synthetic images."""

    def to_lines(self, query: LineQuery, cycle: int) -> Answer_co:
        """Labels along lines of synthetic images."""


def _none() -> torch.Tensor:
    return torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class Query(ABC):
    """What every query carries beside the items themselves.

    Attributes:
        diagnostics: numbers for the cycle's record (entropy before and after a search, ...).
        arrays: small arrays for the record's file, first axis = items of the query
            (synthetic images beside their matches, ...). Kept small by the strategy.
    """

    #: What records call it.
    kind: ClassVar[Literal["pool", "image", "line"]]

    diagnostics: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict, kw_only=True)

    @abstractmethod
    def __len__(self) -> int:
        """Items asked about, Q."""

    @abstractmethod
    def content(self) -> list[torch.Tensor]:
        """What is asked about, on the CPU; what the annotator looks at stands last."""

    @abstractmethod
    def seen(self, pool: Pool) -> torch.Tensor:
        """What is asked about as the classifier sees it, float32 on the pool's device."""

    @abstractmethod
    def answered_by(self, answers: Answers[Answer_co], cycle: int) -> Answer_co:
        """The answer of somebody who knows how to answer this kind."""

    @abstractmethod
    def fault(self, n: int, item_shape: tuple[int, ...]) -> tuple[str, str] | None:
        """What a query for a pool of n items of that shape must be, and what this one is instead."""

    @property
    def touched(self) -> torch.Tensor:
        """Pool items that cannot be asked about again, int64: asked about, or run through by a line."""
        return _none()

    def digest(self) -> str:
        """SHA-256 (16 hex digits) of what is asked about."""
        return hashlib.sha256(self.content()[0].contiguous().numpy().tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class PoolQuery(Query):
    """Pool items by index, int64 ``[Q]`` on the CPU, distinct, none labelled yet."""

    kind = "pool"

    indices: torch.Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def content(self) -> list[torch.Tensor]:
        return [self.indices]

    def seen(self, pool: Pool) -> torch.Tensor:
        return pool.gather(self.indices)

    def answered_by(self, answers: Answers[Answer_co], cycle: int) -> Answer_co:
        return answers.to_items(self, cycle)

    def fault(self, n: int, item_shape: tuple[int, ...]) -> tuple[str, str] | None:
        indices = self.indices
        if (
            not isinstance(indices, torch.Tensor)
            or indices.dtype != torch.int64
            or indices.ndim != 1
        ):
            found = getattr(indices, "dtype", type(indices).__name__)
            return "pool indices as a one-dimensional int64 tensor", f"{found}"
        if indices.device.type != "cpu":
            return "pool indices on the CPU", f"indices on {indices.device}"
        if int(indices.min()) < 0 or int(indices.max()) >= n:
            return f"pool indices in 0 .. {n - 1}", listed(indices)
        if len(indices.unique()) != len(indices):
            return "distinct pool indices", f"duplicates among {listed(indices)}"
        return None

    @property
    def touched(self) -> torch.Tensor:
        return self.indices


@dataclass(frozen=True)
class ImageQuery(Query):
    """Synthetic items, float32 ``[Q, ...]``, to be looked at and labelled (GAAL)."""

    kind = "image"

    items: torch.Tensor

    def __len__(self) -> int:
        return len(self.items)

    def content(self) -> list[torch.Tensor]:
        return [self.items.detach().cpu()]

    def seen(self, pool: Pool) -> torch.Tensor:
        return self.items.to(pool.device)

    def answered_by(self, answers: Answers[Answer_co], cycle: int) -> Answer_co:
        return answers.to_images(self, cycle)

    def fault(self, n: int, item_shape: tuple[int, ...]) -> tuple[str, str] | None:
        if tuple(self.items.shape[1:]) != tuple(item_shape):
            return f"items of shape {tuple(item_shape)}", f"shape {tuple(self.items.shape[1:])}"
        return _finite(self.items, "the synthetic items")


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

    kind = "line"

    points: torch.Tensor
    images: torch.Tensor
    pool_indices: torch.Tensor
    answer: Literal["labels", "boundary"] = "labels"

    def __len__(self) -> int:
        return len(self.points)

    def content(self) -> list[torch.Tensor]:
        return [self.points.detach().cpu(), self.images.detach().cpu()]

    def seen(self, pool: Pool) -> torch.Tensor:
        return self.points.flatten(0, 1).to(pool.device)

    def answered_by(self, answers: Answers[Answer_co], cycle: int) -> Answer_co:
        return answers.to_lines(self, cycle)

    def fault(self, n: int, item_shape: tuple[int, ...]) -> tuple[str, str] | None:
        if tuple(self.points.shape[2:]) != tuple(item_shape):
            found = f"shape {tuple(self.points.shape[2:])}"
            return f"points of shape {tuple(item_shape)}", found
        through = PoolQuery(self.pool_indices).fault(n, item_shape)
        return through or _finite(self.points, "the lines")

    @property
    def touched(self) -> torch.Tensor:
        return self.pool_indices


def _finite(values: torch.Tensor, what: str) -> tuple[str, str] | None:
    if bool(values.isfinite().all()):
        return None
    return "finite values", f"NaN or infinity in {what}"


def listed(indices: torch.Tensor) -> str:
    """Some indices, for a message."""
    text = ", ".join(map(str, indices[:8].tolist()))
    return text + (", ..." if len(indices) > 8 else "")

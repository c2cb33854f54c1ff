"""Queries: what a strategy sends to the oracle, and what each kind of query knows of itself.

Shape letters: Q items of a query, P points of a line.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from alharness.lazily import numpy as np
from alharness.lazily import torch
from alharness.pool import Pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
        diagnostics: finite numbers for the cycle's record (entropy before and after a search, ...).
        arrays: small numpy arrays of finite numbers for the record's file, first axis = items of the
            query, or the first ones of them (synthetic images beside their matches, ...). Kept
            small by the strategy.
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
    def faults(self, n: int, item_shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[str, str]]]:
        """What a query for a pool of n items of that shape must be, and what this one is instead.

        By rule: ``query-type`` (nothing more is asked after it), ``never-test-items`` (outside of the pool),
        ``distinct``. Does not trust the values' types, nor their number.
        """

    def figures_fault(self) -> tuple[str, str] | None:
        """What diagnostics and arrays must be, and what these are instead."""
        # Names first: what is said of a value below is said by its name.
        for field_name in ("diagnostics", "arrays"):
            values = getattr(self, field_name)
            if not isinstance(values, Mapping):
                return f"{field_name} by name", f"a {type(values).__name__}"
            for name in values:
                if not isinstance(name, str) or not name:
                    return f"{field_name} named by texts", f"the name {name!r}"
                if field_name == "arrays" and "@" in name:  # which marks the cycles of an array
                    return "arrays with names without an @", f"the name {name!r}"
        for name, value in self.diagnostics.items():
            found = _number_fault(value)
            if found is not None:
                return f"a finite number in the diagnostic '{name}'", found
        for name, values in self.arrays.items():
            fault = _array_fault(values, len(self))
            if fault is not None:
                return f"{fault[0]} in the array '{name}'", fault[1]
        return None

    def owned(self) -> Query:
        """The same query of exactly its kind, with values that nobody else holds.

        A strategy may use a buffer again, or derive a kind of its own: neither may change what was
        asked.
        """
        kind = next(kind for kind in (PoolQuery, ImageQuery, LineQuery) if isinstance(self, kind))
        return kind(**{part.name: _owned(getattr(self, part.name)) for part in fields(kind)})

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

    def faults(self, n: int, item_shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[str, str]]]:
        indices = self.indices
        if not _is_tensor(indices, torch.int64) or indices.ndim != 1:
            found = _type_of(indices)
            if _is_tensor(indices) and indices.ndim != 1:
                found += f" of shape {tuple(indices.shape)}"
            yield "query-type", ("pool indices as a one-dimensional int64 tensor", found)
        elif indices.device.type != "cpu":
            yield "query-type", ("pool indices on the CPU", f"indices on {indices.device}")
        elif len(indices):
            if int(indices.min()) < 0 or int(indices.max()) >= n:
                yield "never-test-items", (f"pool indices in 0 .. {n - 1}", listed(indices))
            if len(indices.unique()) != len(indices):
                yield "distinct", ("distinct pool indices", f"duplicates among {listed(indices)}")

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

    def faults(self, n: int, item_shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[str, str]]]:
        fault = _values_fault(self.items, "the synthetic items", 1, item_shape) or _range_fault(
            self.items, "the synthetic items"
        )
        if fault is not None:
            yield "query-type", fault


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

    def faults(self, n: int, item_shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[str, str]]]:
        fault = (
            _values_fault(self.points, "the lines' points", 2, item_shape)
            or _values_fault(self.images, "the lines' images", 2)
            or _range_fault(self.images, "the lines' images")
            or self._lengths_fault()
        )
        if fault is not None:
            yield "query-type", fault
        else:
            yield from PoolQuery(self.pool_indices).faults(n, item_shape)

    def _lengths_fault(self) -> tuple[str, str] | None:
        if self.points.shape[:2] != self.images.shape[:2]:
            points, images = tuple(self.points.shape[:2]), tuple(self.images.shape[:2])
            return "an image for each point", f"{points} points and {images} images"
        indices = self.pool_indices
        if isinstance(indices, torch.Tensor) and indices.numel() != len(self.points):
            return "a pool item for each line", f"{indices.numel()} for {len(self.points)}"
        if self.answer not in ("labels", "boundary"):
            return "labels or boundary for an answer", repr(self.answer)
        return None

    @property
    def touched(self) -> torch.Tensor:
        return self.pool_indices


def _is_tensor(values: object, dtype: torch.dtype | None = None) -> bool:
    """Whether it is torch's own tensor: a class derived from it may answer otherwise to each who asks."""
    return type(values) is torch.Tensor and dtype in (None, values.dtype)


def _type_of(values: Any) -> str:
    return f"{values.dtype}" if _is_tensor(values) else f"{type(values).__name__}"


#: How far a decoded image may leave [0, 1] by rounding: less than half a level of 256.
ROUNDING = 1e-3


def _values_fault(
    values: torch.Tensor, what: str, n_axes: int, shape: tuple[int, ...] | None = None
) -> tuple[str, str] | None:
    """Whether values are finite float32 rows ``[Q, ...]`` (or ``[Q, P, ...]``) of items of a shape."""
    if not _is_tensor(values, torch.float32):
        return f"{what} as a float32 tensor", _type_of(values)
    if values.ndim <= n_axes or (shape is not None and tuple(values.shape[n_axes:]) != shape):
        wanted = f"{tuple(shape)}" if shape is not None else "(C, H, W)"
        return f"{what} of shape {wanted} each", f"shape {tuple(values.shape[n_axes:])}"
    if not bool(values.isfinite().all()):
        return "finite values", f"NaN or infinity in {what}"
    return None


def _range_fault(images: torch.Tensor, what: str) -> tuple[str, str] | None:
    if images.numel() == 0:
        return None
    low, high = float(images.min()), float(images.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        return f"{what} with values in [0, 1]", f"{low:.3g} .. {high:.3g}"
    return None


def _number_fault(value: Any) -> str | None:
    """Why a diagnostic is no finite number; None when it is one."""
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return f"{value!r:.60}, a {type(value).__name__}"
    try:
        return None if math.isfinite(value) else f"{float(value)}"
    except OverflowError:
        return "a number beyond float64"


def _array_fault(values: Any, n: int) -> tuple[str, str] | None:
    if type(values) is not np.ndarray:
        return "a numpy array", f"a {type(values).__name__}"
    if values.dtype.kind not in "biuf":
        return "numbers", f"dtype {values.dtype}"
    if values.ndim == 0 or len(values) > n:
        return f"a first axis of the query's {n} items", f"shape {values.shape}"
    if not np.isfinite(values).all():
        return "finite numbers", "NaN or infinity"
    return None


def _owned(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Mapping):
        return {name: _owned(part) for name, part in value.items()}
    return value


def listed(indices: torch.Tensor) -> str:
    """Some indices, for a message."""
    text = ", ".join(map(str, indices[:8].tolist()))
    return text + (", ..." if len(indices) > 8 else "")

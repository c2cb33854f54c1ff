"""Queries and the oracle: the sole holder of the hidden targets.

A query is what a strategy sends; the annotation (``labelled.py``) is what comes back. Pool items are
answered from the hidden targets. Items that are not in the pool have none: an annotator looks at
them, a network trained on all labelled training data (``annotator.py``) or a person (``desk.py``).

Shape letters: Q items of a query, P points of a line, S synthetic items with a label, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from alharness import seeds
from alharness.artefacts import Supply
from alharness.border.vault import Vault
from alharness.errors import UserError
from alharness.labelled import Annotation
from alharness.lazily import numpy as np
from alharness.oracle.noise import with_noise
from alharness.oracle.originals import Original, Originals
from alharness.oracle.questions import Asking
from alharness.oracle.settings import OracleSettings
from alharness.pool import Pool
from alharness.queries import ImageQuery, LineQuery, PoolQuery, Query
from alharness.tasks.base import TaskData

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Annotator(Protocol):
    """Looks at images and says what they may be."""

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """Class probabilities, float32 ``[B, C]`` on the CPU, of images ``[B, ...]`` in [0, 1]."""
        ...


class Person(Protocol):
    """Answers a cycle's query by hand; see ``desk.Desk``."""

    def labels(
        self, items: torch.Tensor, cycle: int, indices: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Class per item, int64 ``[Q]``; -1 where the person cannot tell; pool indices, where it has them."""
        ...

    def changes(self, images: torch.Tensor, cycle: int) -> torch.Tensor:
        """Per line the class of its first image and where it changes, int64 ``[Q, 2]``.

        The place is the index of the first image of the other class, P where there is none;
        -1, -1 where the person cannot tell.
        """
        ...


class Oracle:
    """Answers queries, and says what the answers cost.

    Attributes:
        vault: what it answers, the wrong labels included.
        truth: the true classes; the same vault where no label is wrong.
        notes: what the record should say of its answers.

    Args:
        targets: the hidden classes of all pool items, int64 ``[N]``; kept in a ``vault``.
        n_classes: number of classes.
        settings: modes and costs.
        annotator: gives the annotator of synthetic items; called when the first is asked about, with
            the true classes, on which it may be trained.
        person: answers instead in mode ``human``, the initial set excepted.
        pool: shown to the person.
        seed: for labels of synthetic items that are drawn.
        data_seed: decides which labels of the pool are wrong, where the settings want some to be.
    """

    def __init__(
        self,
        targets: NDArray[np.int64] | torch.Tensor,
        n_classes: int,
        *,
        settings: OracleSettings | None = None,
        annotator: Callable[[Vault], Annotator] | None = None,
        person: Person | None = None,
        pool: Pool | None = None,
        seed: int = 0,
        data_seed: int = 0,
    ) -> None:
        self.settings = settings or OracleSettings()
        plain = np.asarray(targets, dtype=np.int64)
        self.truth = Vault(plain, n_classes)
        self.vault = self.truth
        self.notes: dict[str, str] = {}
        if self.settings.noise:
            noisy = with_noise(plain, n_classes, self.settings.noise, data_seed)
            self.vault = Vault(noisy, n_classes)
            n_wrong = int((noisy != plain).sum())
            self.notes["labels"] = (
                f"{n_wrong:,} of the {len(plain):,} labels of the pool are wrong on purpose "
                f"(oracle.noise={self.settings.noise:g}, data seed {data_seed})"
            )
        self._has_blanks = bool((plain < 0).any())
        self._targets = self.vault.decoys  # what a look for targets finds
        self.n_classes = n_classes
        self._make_annotator = annotator
        self._annotator: Annotator | None = None
        self._person = person
        self._pool = pool
        self._seed = seed

    def annotate(self, query: Query, *, cycle: int) -> Annotation:
        """Labels for a checked query. A negative cycle is the initial set, from the targets."""
        return query.answered_by(self, cycle)

    def confirms(self, annotation: Annotation) -> bool:
        """Whether it would give these labels of pool items (again); a person is not asked twice."""
        if self._person is not None:
            return True
        return torch.equal(self.vault.reveal(annotation.indices), annotation.targets)

    def given(self) -> torch.Tensor:
        """Pool items that have a class where others have none, int64, ascending; empty where all have one."""
        known = self.truth.reveal() >= 0
        return torch.empty(0, dtype=torch.int64) if known.all() else known.nonzero().squeeze(1)

    def _slips(self, indices: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
        """Which of these answers are not the data's own, bool ``[P]``; None where none can be.

        A person's are held against the hidden targets, as far as there are any: for the record alone.
        """
        if self.vault is self.truth and self._person is None:
            return None
        truth = self.truth.reveal(indices)
        return (targets != truth) & (truth >= 0)

    def to_items(self, query: PoolQuery, cycle: int) -> Annotation:
        """Labels of pool items: from the hidden targets, or from a person."""
        indices, targets = query.indices, self.vault.reveal(query.indices)
        n_asked = len(query)
        if self._person is not None and self._pool is not None:
            # The initial set comes from the targets as far as there are any: nobody types 100 labels that
            # are there already before the first choice.
            asked = targets < 0 if cycle < 0 else torch.ones_like(indices, dtype=torch.bool)
            if cycle < 0 and self._has_blanks:
                n_asked = int(asked.sum())  # what the data say already costs nothing
            if asked.any():
                shown = self._pool.gather(indices[asked]).cpu()
                targets[asked] = self._person.labels(shown, cycle, indices[asked])
        known = targets >= 0
        indices, targets, n_rejected = indices[known], targets[known], int((~known).sum())
        return Annotation(
            indices=indices,
            targets=targets,
            n_asked=n_asked,
            n_rejected=n_rejected,
            cost=self.settings.image_cost * n_asked,
            wrong=self._slips(indices, targets),
        )

    def to_images(self, query: ImageQuery, cycle: int) -> Annotation:
        """Labels of synthetic images: from the annotator, or from a person."""
        items = as_stored(query.items)
        targets = self._person.labels(items, cycle) if self._person else self._look(items, cycle)
        known = targets >= 0
        return Annotation(
            indices=torch.empty(0, dtype=torch.int64),
            targets=torch.empty(0, dtype=torch.int64),
            items=items[known],
            item_targets=targets[known],
            n_asked=len(query),
            n_rejected=int((~known).sum()),
            cost=self.settings.image_cost * len(query),
        )

    def to_lines(self, query: LineQuery, cycle: int) -> Annotation:
        """Labels along lines of synthetic images, each line annotated as one."""
        if self.n_classes != 2:
            raise UserError(
                f"Lines are annotated by the one place where the class changes, which needs two "
                f"classes; this task has {self.n_classes}."
            )
        images_QP = as_stored(query.images)
        if self._person is not None:
            first_Q, change_Q = self._person.changes(images_QP, cycle).unbind(1)
        else:
            n_lines, n_points = images_QP.shape[:2]
            labels = self._look(images_QP.flatten(0, 1), cycle).view(n_lines, n_points)
            first_Q, change_Q = first_change(labels)
        known = first_Q >= 0
        points = query.points.cpu()[known]
        first, change = first_Q[known], change_Q[known]
        annotation = Annotation(
            indices=torch.empty(0, dtype=torch.int64),
            targets=torch.empty(0, dtype=torch.int64),
            n_asked=len(query),
            n_rejected=int((~known).sum()),
            cost=self.settings.line_cost * len(query),
        )
        n_points = points.shape[1]
        if query.answer == "labels":
            after = torch.arange(n_points) >= change[:, None]
            targets = torch.where(after, 1 - first[:, None], first[:, None])
            return replace(annotation, items=points.flatten(0, 1), item_targets=targets.flatten())
        changing = change < n_points
        at, second = changing.nonzero().squeeze(1), change[changing]
        # The class changes somewhere between two neighbouring points of the line: in the middle.
        boundary = (points[at, second - 1] + points[at, second]) / 2
        indices = query.pool_indices[known]
        targets = self.vault.reveal(indices)
        return replace(
            annotation,
            indices=indices,
            targets=targets,
            wrong=self._slips(indices, targets),
            extras={"boundary": boundary} if len(boundary) else {},
        )

    def _look(self, images: torch.Tensor, cycle: int) -> torch.Tensor:
        """The annotator's label of each image, int64 ``[B]``; -1 where it abstains."""
        if self._annotator is None:
            if self._make_annotator is None:
                raise UserError(
                    "This strategy asks about items that are not in the pool, and this oracle has "
                    "no annotator to look at them."
                )
            self._annotator = self._make_annotator(self.truth)
        p_BC = self._annotator.probabilities(images)
        if self.settings.mode == "noisy":
            rng = seeds.torch_rng(self._seed, "oracle", cycle)
            return torch.multinomial(p_BC, 1, generator=rng).squeeze(1)
        confidence, labels = p_BC.max(dim=1)
        if self.settings.mode == "abstain":
            labels = labels.masked_fill(confidence < self.settings.threshold, -1)
        return labels


def as_stored(images: torch.Tensor) -> torch.Tensor:
    """Images as a file would hold them, 256 levels: what an annotator sees is what is trained on."""
    return (images.detach().cpu().clamp(0, 1) * 255).round() / 255


def first_change(labels_QP: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Class at the start of each line and index of the first image of the other class.

    Images without a label (-1) are passed over; a line with none at all gives -1, -1, one that does
    not change gives P.

    Args:
        labels_QP: int64 ``[Q, P]``.

    Returns:
        int64 ``[Q]`` twice.
    """
    n_points = labels_QP.shape[1]
    positions = torch.arange(n_points)
    seen = labels_QP >= 0
    start = torch.where(seen, positions, n_points).amin(dim=1)
    # A line without labels has no start; its clamped place holds -1, which is the answer.
    first = labels_QP.gather(1, start.clamp_max(n_points - 1)[:, None]).squeeze(1)
    other = seen & (labels_QP != first[:, None])
    change = torch.where(other, positions, n_points).amin(dim=1)
    return first, change.masked_fill(first < 0, -1)


def open_oracle(
    data: TaskData,
    pool: Pool,
    test: Pool,
    supply: Supply,
    *,
    settings: OracleSettings,
    seed: int,
    data_seed: int,
    folder: Path,
    original: Callable[[str], Original] = lambda name: None,
    asking: Asking | None = None,
) -> Oracle:
    """The oracle of a run: the only place besides evaluation that the targets go to.

    The caller lets go of ``data`` and goes on with ``hidden(data, oracle)``.

    Args:
        folder: the run's folder, where a person finds what is to be annotated.
        original: what an item is to the owner of the data, by its name, for a person.
        asking: how a person is asked.
    """
    from alharness.oracle.annotator import obtain_annotator
    from alharness.oracle.desk import Desk

    bare = replace(data, pool_targets=np.empty(0, dtype=np.int64))

    def annotator(truth: Vault) -> Annotator:
        # Of the truth: what it says of synthetic images has its own faults, which are measured. Not
        # through the oracle: it would hold itself, and with it the pool, after the run is over.
        whole = replace(bare, pool_targets=truth.reveal().numpy())
        return obtain_annotator(
            whole, pool, test, supply, kind=settings.annotator, epochs=settings.epochs
        )

    person = None
    if settings.mode == "human":
        person = Desk(
            folder / "annotations",
            data.class_names,
            originals=Originals(data.pool_names, original),
            asking=asking,
        )
    return Oracle(
        data.pool_targets,
        data.n_classes,
        settings=settings,
        annotator=annotator,
        person=person,
        pool=pool,
        seed=seed,
        data_seed=data_seed,
    )


def hidden(data: TaskData, oracle: Oracle) -> TaskData:
    """The same data with decoys for targets of the pool, and what the oracle has to say of its labels."""
    notes = {**data.notes, **oracle.notes}
    return replace(data, pool_targets=oracle.vault.decoys.numpy(), notes=notes)

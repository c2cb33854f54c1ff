"""Where items lie, by name: the one way in which strategies take the features that they compare items by.

``strategy.features`` names a space: ``classifier`` (the input of the classifier's last layer, computed anew
in each cycle), ``items`` (their own numbers), ``autoencoder`` (the code of the task's auto-encoder, reduced
by PCA) or ``npz:FILE`` (a row for each pool item, computed elsewhere). Rows are asked for by pool index, so
a narrowed view takes the rows of its own candidates.

Shape letters: N pool items, n items asked for, D raw features, K features after PCA.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from alharness.errors import UserError, unknown_name
from alharness.lazily import torch
from alharness.matching.given import PREFIX, features_identity, path_of, read_given

if TYPE_CHECKING:
    from alharness.artefacts import Supply
    from alharness.matching.features import FeatureExtractor
    from alharness.pool import Pool
    from alharness.timing import WorkCounters

__all__ = [
    "AUTO",
    "NAMES",
    "Space",
    "chosen",
    "extractor_in",
    "features_identity",
    "open_space",
    "require_known",
    "require_reducible",
    "unit_rows",
    "unsuitable",
]

#: What the strategy takes unless it is told otherwise.
AUTO = "auto"
CLASSIFIER, ITEMS, AUTOENCODER = "classifier", "items", "autoencoder"
NAMES = (AUTO, CLASSIFIER, ITEMS, AUTOENCODER)


class Sees(Protocol):
    """A cycle's view, as far as features need one: both calls count what they read."""

    work: WorkCounters

    @property
    def learner(self) -> Any:
        """The classifier of the cycle."""
        ...

    def features(self, indices: torch.Tensor | None = None) -> torch.Tensor:
        """The classifier's features of pool items, ``[n, D]``."""
        ...

    def rows(self, indices: torch.Tensor | None = None) -> torch.Tensor:
        """Pool items as flat rows, ``[n, D]``."""
        ...


class Prepares(Protocol):
    """A strategy's preparation, as far as features need one."""

    @property
    def pool(self) -> Pool:
        """The pool."""
        ...

    @property
    def supply(self) -> Supply:
        """Where costly things come from."""
        ...

    @property
    def autoencoder(self) -> Callable[[], Any]:
        """Gives the task's auto-encoder."""
        ...

    @property
    def own_fingerprint(self) -> str:
        """Of the task's own pool, whatever it was moved to."""
        ...


@dataclass(frozen=True)
class Space:
    """A space that was opened for a pool.

    Attributes:
        name: ``classifier``, ``items``, ``autoencoder`` or ``npz:FILE``.
        key: names what lies in it, for artefacts; empty where that changes from cycle to cycle.
        points: the whole pool, float32 ``[N, K]`` on its device; None where rows are computed when asked for.
        place: items that are not in the pool as raw rows; None where the view does it.
        unit: whether rows have length 1; ``points`` have it.
    """

    name: str
    key: str
    points: torch.Tensor | None = None
    place: Callable[[torch.Tensor], torch.Tensor] | None = None
    unit: bool = False

    def on(self, device: torch.device | str) -> Space:
        """The same space with its points elsewhere: a query's arithmetic may be the host's."""
        return self if self.points is None else replace(self, points=self.points.to(device))

    def of(self, view: Sees, indices: torch.Tensor) -> torch.Tensor:
        """Rows of pool items, float32 ``[n, D]``, in the order of ``indices``, counted as they are read."""
        if self.points is None:
            rows = view.features(indices) if self.name == CLASSIFIER else view.rows(indices)
            return unit_rows(rows) if self.unit else rows
        view.work.add("feature_rows_read", len(indices))
        return self.points[indices.to(self.points.device)]

    def of_items(self, view: Sees, items: torch.Tensor) -> torch.Tensor:
        """Rows of items that are not in the pool, float32 ``[n, D]``.

        Raises:
            UserError: the space comes from a file that does not say what made it.
        """
        if self.place is not None:
            rows = self.place(items)
        else:
            rows = view.learner.features(items) if self.name == CLASSIFIER else items.flatten(1)
        return unit_rows(rows) if self.unit else rows


def require_known(name: str) -> str:
    """A value of ``strategy.features`` as it is.

    Raises:
        UserError: it names no space.
    """
    if name in NAMES or (name.startswith(PREFIX) and name != PREFIX):
        return name
    raise unknown_name("value of strategy.features", name, [*NAMES, f"{PREFIX}FILE"])


def unsuitable(name: str, item_shape: tuple[int, ...]) -> str | None:
    """Why such items have no such features, or None."""
    if name == AUTOENCODER and len(item_shape) != 3:
        return (
            f"strategy.features={AUTOENCODER} is of images, the task's items have shape {item_shape}; "
            f"{ITEMS} is its counterpart"
        )
    return None


def chosen(features_setting: str, own: str, pool: Pool) -> str:
    """The space that ``strategy.features`` names for a pool.

    Args:
        features_setting: its value.
        own: the strategy's own space; empty: an auto-encoder's code of images, rows as they are.
    """
    if features_setting != AUTO:
        return features_setting
    return own or (AUTOENCODER if len(pool.item_shape) == 3 else ITEMS)


def open_space(
    name: str, preparation: Prepares, n_components: int | None = None, *, unit: bool = False
) -> Space:
    """A space for the pool of a preparation; what is computed once is shared and in the ledger.

    Args:
        name: a space, not ``auto``.
        preparation: of the strategy.
        n_components: dimensions after PCA, of items and of codes; None leaves items as they are. Rows of a
            file and of the classifier are never reduced.
        unit: scale rows of a file and of the classifier to length 1, as methods do that compare directions.

    Raises:
        UserError: a file that is not there, damaged, or of other items.
    """
    from alharness.matching import N_COMPONENTS, features

    pool = preparation.pool
    if name == CLASSIFIER or (name == ITEMS and n_components is None):
        return Space(name, "", unit=unit and name == CLASSIFIER)
    path = path_of(name)
    if path is not None:
        with preparation.supply.ledger.entry("features", extractor=name, rows=pool.n):
            given = read_given(path)
            given.require(pool.n, preparation.own_fingerprint)
            points = unit_rows(given.rows) if unit else given.rows

        def place(items: torch.Tensor) -> torch.Tensor:
            return given.placing(pool)(items)

        key = f"{PREFIX}{given.digest}" + (" unit" if unit else "")
        return Space(name, key, points.to(pool.device), place, unit)
    extractor = features.pixels() if name == ITEMS else features.encoder(preparation.autoencoder())
    n_components = n_components or N_COMPONENTS
    reduced = features.obtain_reduced_pool(pool, extractor, n_components, preparation.supply)
    return Space(name, extractor.key, reduced.features, reduced.space)


def extractor_in(
    name: str, preparation: Prepares
) -> tuple[FeatureExtractor | None, torch.Tensor | None]:
    """What places any image, for strategies that match images of their own to pool items.

    Args:
        name: a space, not ``auto``.

    Returns:
        the extractor, None where it changes with the classifier; and the pool's raw rows, float32 ``[N, D]``
        on the CPU, where they are known already.

    Raises:
        UserError: a file that is not there, damaged, of other items, or without its model.
    """
    from alharness.matching import features

    if name == CLASSIFIER:
        return None, None
    if name == ITEMS:
        return features.pixels(), None
    path = path_of(name)
    if path is None:
        return features.encoder(preparation.autoencoder()), None
    given = read_given(path)
    given.require(preparation.pool.n, preparation.own_fingerprint)
    extractor = features.FeatureExtractor(
        name, f"{PREFIX}{given.digest}", given.placing(preparation.pool)
    )
    return extractor, given.rows


def require_reducible(setting: str, name: str) -> None:
    """Refuse dimensions for rows that are taken whole.

    Raises:
        UserError: the space is the classifier's or a file's.
    """
    if name == CLASSIFIER or path_of(name) is not None:
        raise UserError(
            f"{setting} is of items and auto-encoders; rows of {name} are taken whole. Leave it out, or "
            "reduce the rows in the file."
        )


def unit_rows(rows_ND: torch.Tensor) -> torch.Tensor:
    """Rows scaled to length 1; a row of zeros stays."""
    lengths = rows_ND.norm(dim=1, keepdim=True)
    scaled: torch.Tensor = rows_ND / lengths.masked_fill(lengths == 0, 1.0)
    return scaled

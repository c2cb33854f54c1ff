"""scikit-learn's classifiers as learners: ``learner.kind=sklearn.ensemble:RandomForestClassifier``.

Items are flattened to rows. Every ``random_state`` follows from the fit's seed. An estimator has no
gradients, so that nothing can be searched through it, and no layers: its features are the items
themselves, as for the linear model.

To set an estimator's parameters, name a configured object in a file: ``./mine.py:forest`` with
``forest = RandomForestClassifier(n_estimators=50)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.lazily import numpy as np
from alharness.learners.kinds import (
    EstimatorKind,
    class_weights_of,
    gives_probabilities,
    random_states,
)
from alharness.learners.learner import FitReport, Learner, require_no_gaps
from alharness.pool import Pool

#: Probabilities of 0 become this, so that logarithms stay finite.
SMALLEST = 1e-7


class EstimatorLearner(Learner):
    """A scikit-learn classifier.

    While one class only has a label it is not asked: that class has all probability.

    Raises:
        UserError: an estimator without ``predict_proba``, or that cannot be made without arguments.
    """

    differentiable = False

    def __init__(
        self,
        item_shape: tuple[int, ...],
        n_classes: int,
        device: torch.device,
        kind: EstimatorKind,
        class_weight: str = "none",
    ) -> None:
        super().__init__(item_shape, n_classes, device)
        from sklearn.base import clone

        self.name = kind.name
        try:
            found = kind.estimator
            self.estimator: Any = found() if isinstance(found, type) else clone(found)
        except TypeError as error:
            raise UserError(
                f"The estimator '{kind.name}' cannot be made without arguments: {error}. Configure "
                "one in a file and name it: ./mine.py:estimator."
            ) from error
        # Some have it once they are trained: a stacking classifier has that of its last estimator.
        if not hasattr(self.estimator, "predict_proba") and not gives_probabilities(found):
            raise UserError(
                f"The estimator '{kind.name}' has no predict_proba, which strategies need. Use another "
                "one, or wrap it in sklearn.calibration.CalibratedClassifierCV in a file of your own."
            )
        self._states = random_states(self.estimator)
        self.seeded = bool(self._states)
        if class_weight != "none":
            self.estimator.set_params(
                **dict.fromkeys(class_weights_of(self.estimator), class_weight)
            )
        self.classes = np.arange(n_classes)

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        from sklearn.base import clone

        items, targets = labelled.training_data(pool)
        x, y = self._rows(items), targets.cpu().numpy()
        self.estimator = clone(self.estimator)
        self.estimator.set_params(**dict.fromkeys(self._states, seed % 2**32))
        self.classes = np.unique(y)
        if len(self.classes) > 1:
            with self._told(f"be trained on {len(y)}"):
                self.estimator.fit(x, y)
        loss = functional.nll_loss(self.log_probs(items), targets)
        return FitReport(1, float(loss), True)

    def logits(self, items: torch.Tensor) -> torch.Tensor:
        """Logarithms of the probabilities, ``[N, C]``, not differentiable.

        Raises:
            UserError: a gradient is wanted.
        """
        if items.requires_grad:
            raise UserError(
                f"The estimator '{self.name}' has no gradients. Use a network, for instance "
                "learner.kind=mlp, for strategies that search by gradients."
            )
        found = np.zeros((len(items), self.n_classes))
        if len(self.classes) > 1:
            with self._told("predict"):
                found[:, self.classes] = self.estimator.predict_proba(self._rows(items))
            if not np.isfinite(found).all():
                n = int((~np.isfinite(found).all(axis=1)).sum())
                raise UserError(
                    f"The estimator '{self.name}' gives no finite probabilities for {n:,} of {len(found):,} "
                    "items. Raise --initial-size, set its parameters in a file (./mine.py:estimator), or use "
                    "another learner.kind."
                )
        else:
            found[:, self.classes] = 1.0
        return torch.from_numpy(found).clamp_min(SMALLEST).log().float().to(self.device)

    def features(self, items: torch.Tensor) -> torch.Tensor:
        """The items themselves.

        Raises:
            UserError: rows with gaps: they have no distances from each other.
        """
        rows = items.detach().flatten(1)
        require_no_gaps(rows)
        return rows

    def state(self) -> dict[str, torch.Tensor]:
        found = {"classes": torch.from_numpy(self.classes)}
        for name, content in _contents("", self.estimator, {}):
            found[name] = torch.frombuffer(bytearray(content or b"\0"), dtype=torch.uint8)
        return found

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """What the estimator refuses, in one line."""
        try:
            yield
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise UserError(
                f"The estimator '{self.name}' cannot {what} items of shape {self.item_shape}: "
                f"{first.rstrip('.')}. Raise --initial-size, or use another learner.kind."
            ) from error

    @staticmethod
    def _rows(items: torch.Tensor) -> Any:
        return items.detach().flatten(1).cpu().numpy()


def _contents(name: str, value: Any, seen: dict[int, Any]) -> Iterator[tuple[str, bytes]]:
    """All that an estimator holds, by place: the bytes of arrays, numbers and texts.

    Not a pickle: compiled trees lie in memory with gaps between their fields, whose bytes are chance.
    """
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
        yield name, repr(value).encode()
        return
    if isinstance(value, np.ndarray) and value.dtype.names is None and value.dtype != object:
        yield name, f"{value.dtype.str}{value.shape}".encode() + value.tobytes()
        return
    # Once: estimators hold some objects in several places, and a few hold themselves.
    if id(value) in seen:
        return
    seen[id(value)] = value  # held, so that nothing else takes its place in memory
    if isinstance(value, np.ndarray):
        fields = value.dtype.names
        parts = {f: value[f] for f in fields} if fields else dict(enumerate(value.ravel().tolist()))
    elif isinstance(value, dict):
        parts = value
    elif isinstance(value, list | tuple):
        parts = dict(enumerate(value))
    elif isinstance(value, set | frozenset):
        parts = dict(enumerate(sorted(value, key=repr)))
    elif callable(value):
        yield name, getattr(value, "__qualname__", type(value).__qualname__).encode()
        return
    else:
        yield f"{name}!", type(value).__qualname__.encode()
        parts = {"": value.__getstate__()}
    for key, part in parts.items():
        yield from _contents(f"{name}.{key}", part, seen)

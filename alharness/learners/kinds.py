"""What ``learner.kind`` may name: a network, a ``Learner``, or a scikit-learn estimator.

* a function or ``nn.Module`` class of ``(item_shape, n_classes)``, with a third parameter ``width``
  where it wants the setting of that name: gives a network from items to logits. Its last linear layer
  is found, or told by an attribute ``head`` of the network: the layer, or its dotted name. The layer's
  input is what strategies see as ``features``.
* a subclass of ``Learner``, made with ``(item_shape, n_classes, device)`` and, where it has such a
  parameter, ``settings``.
* a scikit-learn classifier: its class, or a configured object.

Our own kinds are found and made like anyone's. Each kind says for itself which settings it takes and
what it can give to a strategy.
"""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alharness import plugins
from alharness.errors import UserError
from alharness.lazily import nn, torch
from alharness.lazily import numpy as np
from alharness.learners.learner import SAMPLES_REMEDY, Learner
from alharness.learners.settings import LearnerSettings

if TYPE_CHECKING:
    from alharness.learners.headed import HeadedNetwork

#: Item shape and number of classes, once they are known.
ProblemShape = tuple[tuple[int, ...], int] | None

#: Settings that concern networks; of a classifier that is none, nobody would read them.
OF_NETWORKS = ("dropout", "weights", "freeze", "warm_start")


#: The default, which says nothing.
_UNLABELLED = LearnerSettings.model_fields["unlabelled"].default


@dataclass(frozen=True)
class Kind(ABC):
    """What the name of a classifier stands for.

    Attributes:
        name: what the user typed.
    """

    name: str

    @property
    @abstractmethod
    def plugin(self) -> Any:
        """The class, function or object that it stands for."""

    @property
    @abstractmethod
    def description(self) -> str:
        """For people: its docstring."""

    @property
    def unread(self) -> Collection[str]:
        """Settings that it would not read."""
        return OF_NETWORKS

    @property
    def takes_gaps(self) -> bool:
        """Whether rows may have NaN where nothing is there."""
        return False

    @property
    def weighs_classes(self) -> bool:
        """Whether rare classes can count more in its training (``learner.class_weight``)."""
        return False

    def optimises(self, settings: LearnerSettings) -> bool:
        """Whether a fit makes an optimiser of torch (see ``Strategy.optimises``)."""
        return not (self.name == "linear" and settings.solver == "newton")

    def require_settings(self, settings: LearnerSettings) -> None:
        """Refuse what it would ignore. Loads no data and builds nothing.

        Raises:
            UserError: settings that it does not have.
        """
        for setting in self.unread:
            if getattr(settings, setting):
                raise UserError(
                    f"learner.{setting} is for networks; the classifier '{self.name}' is none. Use one, "
                    f"for instance learner.kind=mlp, or leave learner.{setting} out."
                )
        if settings.class_weight != "none" and not self.weighs_classes:
            raise UserError(
                f"learner.class_weight={settings.class_weight}: the classifier '{self.name}' has no weights "
                "of classes. Use a network, learner.kind=linear or an estimator of scikit-learn with "
                "class_weight, or leave it out."
            )
        if settings.pseudo_labels and not (settings.freeze or self.name == "linear"):
            raise UserError(
                f"learner.pseudo_labels is for the linear model; the classifier '{self.name}' is none. Use "
                "learner.kind=linear, or learner.freeze=true with a network, for a linear head on features."
            )
        if settings.pseudo_labels and settings.members > 1:
            raise UserError(
                "learner.pseudo_labels trains one classifier: members that learn each other's certain "
                "predictions would agree. Set learner.members=1, or leave learner.pseudo_labels out."
            )
        if settings.unlabelled != _UNLABELLED and not settings.pseudo_labels:
            raise UserError(
                "learner.unlabelled says how many items a fit with pseudo-labels reads, and there are none. "
                "Set learner.pseudo_labels, for instance to 0.95, or leave learner.unlabelled out."
            )
        if settings.pack > 1:
            raise UserError(
                f"learner.pack={settings.pack}: networks of several runs were trained side by side by "
                "version 0.2.0 alone. Such runs are read and compared as before; go on with a stopped one by "
                "that version, or leave learner.pack out and start over."
            )

    def identity(self) -> dict[str, str]:
        """Foreign source behind it, as a run's key names it; empty for the harness's own."""
        return plugins.identity_of(plugins.LEARNERS, self.name)

    def sources(self, settings: LearnerSettings) -> dict[str, str]:
        """What the settings name and do not hold, the file of weights, for a run's key.

        Raises:
            UserError: a file that is not there.
        """
        from alharness.learners.weights import weights_identity

        weights = settings.weights and weights_identity(self.name, settings.weights)
        return {"learner.weights": weights} if weights else {}

    def lacking(
        self, settings: LearnerSettings, needs: Collection[str], shape: ProblemShape = None
    ) -> str | None:
        """What a strategy needs of its classifier and will not get, as a reason; None when all is there.

        Args:
            needs: ``gradients`` (of the logits with respect to the items), ``samples`` (of the
                parameters) and ``activations`` (of a network's hidden layers).
            shape: item shape and number of classes, once they are known: a network is built for them to
                see whether it has dropout of its own.
        """
        reasons = {
            "gradients": self._no_gradients,
            "activations": self._no_activations,
            "samples": self._no_samples,
        }
        found = (ask(settings, shape) for need, ask in reasons.items() if need in needs)
        return next(filter(None, found), None)

    def _no_gradients(self, settings: LearnerSettings, shape: ProblemShape) -> str | None:
        return (
            f"it searches for images by gradients of the classifier, and '{self.name}' has "
            "none; use a network, for instance learner.kind=mlp"
        )

    def _no_activations(self, settings: LearnerSettings, shape: ProblemShape) -> str | None:
        return (
            f"it trains a module beside a network, and '{self.name}' is none; use "
            "learner.kind=mlp, mnist-cnn, all-cnn, strided-cnn or linear"
        )

    def _no_samples(self, settings: LearnerSettings, shape: ProblemShape) -> str | None:
        # Members are so many sets of parameters, whatever each of them is.
        if settings.members > 1 or self._can_be_sampled(settings, shape):
            return None
        return (
            f"it needs several sets of parameters, and '{self.name}' has one. "
            f"{SAMPLES_REMEDY.rstrip('.')}"
        )

    def _can_be_sampled(self, settings: LearnerSettings, shape: ProblemShape) -> bool:
        """Whether one classifier has several sets of parameters."""
        return False


def _not_whole(settings: LearnerSettings) -> str | None:
    """Why no module can be trained beside the classifier: it is several, or a head only."""
    if settings.members == 1 and not settings.freeze:
        return None
    setting = "members=1" if settings.members > 1 else "freeze=false"
    return f"it trains a module beside one whole network; set learner.{setting}"


@dataclass(frozen=True)
class NetworkKind(Kind):
    """A network by what makes it.

    Attributes:
        make: ``(item_shape, n_classes)`` to a module, perhaps with ``width``.
    """

    make: Callable[..., Any]

    @property
    def plugin(self) -> Any:
        return self.make

    @property
    def description(self) -> str:
        return inspect.getdoc(self.make) or ""

    @property
    def unread(self) -> Collection[str]:
        return ()

    @property
    def weighs_classes(self) -> bool:
        return True

    def require_settings(self, settings: LearnerSettings) -> None:
        super().require_settings(settings)
        if settings.freeze and settings.dropout:
            raise UserError(
                "learner.freeze trains a linear head, which has no dropout. Use learner.members=5 for "
                "several heads, or leave learner.dropout out."
            )
        if settings.warm_start and (settings.freeze or settings.members > 1):
            what = "learner.freeze trains a linear head, which is solved and has no start"
            if settings.members > 1:
                what = "members of an ensemble differ by where they start"
            raise UserError(
                f"learner.warm_start is for one whole network: {what}. Leave learner.warm_start out."
            )
        if settings.freeze and settings.augment != "none":
            raise UserError(
                "learner.freeze computes features once, so that images cannot be augmented. Set "
                "learner.augment=none, or leave learner.freeze out."
            )

    def build(
        self,
        item_shape: tuple[int, ...],
        n_classes: int,
        *,
        width: int,
        dropout: float = 0.0,
        tensors: Mapping[str, torch.Tensor] | None = None,
    ) -> HeadedNetwork:
        """A fresh network (``building.build_network``)."""
        from alharness.learners import building

        return building.build_network(
            self.name,
            self.make,
            item_shape,
            n_classes,
            width=width,
            dropout=dropout,
            tensors=tensors,
        )

    def require_fit(self, item_shape: tuple[int, ...], n_classes: int, width: int) -> None:
        """Raises a ``UserError`` where there is no such network for such items."""
        from alharness.learners import building

        building.head_of(self.name, self.make, item_shape, n_classes, width)

    def _trial(
        self, settings: LearnerSettings, shape: tuple[tuple[int, ...], int]
    ) -> HeadedNetwork:
        """A network to look at, built without moving torch's random state."""
        with torch.random.fork_rng(devices=[]):
            return self.build(*shape, width=settings.width)

    def _no_gradients(self, settings: LearnerSettings, shape: ProblemShape) -> str | None:
        if not settings.freeze:
            return None
        return (
            "it searches for images by gradients of the classifier, which learner.freeze moves to "
            "features; leave learner.freeze out"
        )

    def _no_activations(self, settings: LearnerSettings, shape: ProblemShape) -> str | None:
        from alharness.learners.headed import Classifier

        reason = _not_whole(settings)
        if reason is not None or shape is None:
            return reason
        network = self._trial(settings, shape)
        if isinstance(network, Classifier) and isinstance(network.body, nn.Sequential):
            return None
        return (
            f"it reads the ReLUs of the harness's own networks, and '{self.name}' is "
            "another one; use learner.kind=mlp, mnist-cnn, all-cnn or strided-cnn"
        )

    def _can_be_sampled(self, settings: LearnerSettings, shape: ProblemShape) -> bool:
        from alharness.learners.headed import dropout_layers

        if settings.freeze:
            return False
        # While none can be built, a network may have dropout of its own: the stage asks again.
        return bool(
            settings.dropout or shape is None or dropout_layers(self._trial(settings, shape))
        )


@dataclass(frozen=True)
class LearnerKind(Kind):
    """A ``Learner`` of its own."""

    cls: type[Learner]

    @property
    def plugin(self) -> Any:
        return self.cls

    @property
    def description(self) -> str:
        return inspect.getdoc(self.cls) or ""

    @property
    def takes_settings(self) -> bool:
        """Whether its constructor wants the settings."""
        return "settings" in inspect.signature(self.cls).parameters

    @property
    def takes_gaps(self) -> bool:
        return self.cls.takes_gaps

    @property
    def unread(self) -> Collection[str]:
        # Somebody's class that takes the settings may read them; only the harness freezes.
        is_own = self.cls.__module__.startswith(f"{__package__}.")
        return ("freeze", "warm_start") if self.takes_settings and not is_own else OF_NETWORKS

    @property
    def weighs_classes(self) -> bool:
        return self.cls.weighs_classes

    def _no_gradients(self, settings: LearnerSettings, shape: ProblemShape) -> str | None:
        return None if self.cls.differentiable else super()._no_gradients(settings, shape)

    def _no_activations(self, settings: LearnerSettings, shape: ProblemShape) -> str | None:
        # The one classifier without hidden layers that learning loss has a module for.
        if self.name == "linear":
            return _not_whole(settings)
        return super()._no_activations(settings, shape)

    def _can_be_sampled(self, settings: LearnerSettings, shape: ProblemShape) -> bool:
        return self.cls.sample_log_probs is not Learner.sample_log_probs


@dataclass(frozen=True)
class EstimatorKind(Kind):
    """A scikit-learn classifier: the class, or an object to be cloned."""

    estimator: Any

    def optimises(self, settings: LearnerSettings) -> bool:
        return False

    @property
    def plugin(self) -> Any:
        return self.estimator

    @property
    def weighs_classes(self) -> bool:
        return bool(class_weights_of(self.estimator))

    @property
    def description(self) -> str:
        # The first paragraph: scikit-learn's docstrings run to pages.
        return (inspect.getdoc(self.estimator) or "").split("\n\n")[0]

    @property
    def takes_gaps(self) -> bool:
        # Tried, not asked: what scikit-learn's tags say of a pipeline, or of somebody's own class, is less.
        return gives_probabilities(self.estimator, gaps=True)


def random_states(estimator: Any) -> list[str]:
    """Names of all parameters of a scikit-learn estimator, and of what it holds, that seed it."""
    names = estimator.get_params(deep=True)
    return [name for name in names if name.rpartition("__")[2] == "random_state"]


def gives_probabilities(estimator: Any, *, gaps: bool = False) -> bool:
    """Whether a scikit-learn classifier can be trained on rows of two classes and says how probable each is.

    Args:
        estimator: its class, or an object to be cloned.
        gaps: whether the rows have NaN.
    """
    from sklearn.base import clone

    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    if gaps:
        x[::4, 1] = np.nan
        x[:30, 2] = np.nan
    try:
        found = estimator() if isinstance(estimator, type) else clone(estimator)
        # None would draw from the generator that belongs to everybody.
        found.set_params(**dict.fromkeys(random_states(found), 0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            p = found.fit(x, y).predict_proba(x[::-1])
    except Exception:  # as many kinds as there are classifiers
        return False
    return bool(np.isfinite(p).all())


def class_weights_of(estimator: Any) -> list[str]:
    """Parameters of a scikit-learn classifier that weigh classes, those of its parts included."""
    if isinstance(estimator, type):
        return [name for name in inspect.signature(estimator).parameters if name == "class_weight"]
    names = estimator.get_params(deep=True)
    return [name for name in names if name.rpartition("__")[2] == "class_weight"]


def kind_of(settings: LearnerSettings) -> Kind:
    """The kind that settings name, once it is sure that it reads all of them.

    Raises:
        UserError: no such classifier, or settings that it does not have.
    """
    kind = find_kind(settings.kind)
    kind.require_settings(settings)
    return kind


def find_kind(name: str) -> Kind:
    """What a kind's name stands for.

    Raises:
        UserError: no such name, or what it names is none of the three forms.
    """
    found = plugins.load("classifier", plugins.LEARNERS, name, _of_scikit_learn)
    kind = form_of(name, found)
    if kind is None:
        raise UserError(
            f"'{name}' is {plugins.describe(found)}, not a classifier. Expected a function or nn.Module "
            "class of (item_shape, n_classes), a subclass of alharness.learners.learner.Learner, or a "
            "scikit-learn classifier."
        )
    return kind


def _of_scikit_learn(name: str) -> str | None:
    """How to name a classifier of scikit-learn that was named barely, in any spelling: ``random-forest``."""
    from sklearn.utils import all_estimators

    def plain(text: str) -> str:
        return "".join(filter(str.isalnum, text.lower())).removesuffix("classifier")

    for known, cls in all_estimators(type_filter="classifier"):
        if plain(known) == plain(name):
            module = ".".join(part for part in cls.__module__.split(".") if part[0] != "_")
            return f"'{name}' is a classifier of scikit-learn: --set learner.kind={module}:{known}"
    return None


def form_of(name: str, found: Any) -> Kind | None:
    """Which of the three forms an object is; None for none of them.

    Raises:
        UserError: a ``Learner`` that leaves out what it must define.
    """
    is_class = isinstance(found, type)
    if is_class and issubclass(found, Learner):
        missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        if missing:
            raise UserError(
                f"The classifier '{name}' does not define {missing}. Write it and try again."
            )
        return LearnerKind(name, found)
    # By what it can do: other libraries' classifiers need not derive from scikit-learn's.
    if hasattr(found, "fit") and hasattr(found, "get_params"):
        return EstimatorKind(name, found)
    if issubclass(found, nn.Module) if is_class else callable(found):
        return NetworkKind(name, found)
    return None


def build_classifier(
    name: str, item_shape: tuple[int, ...], n_classes: int, width: int
) -> HeadedNetwork:
    """A fresh network of a kind, by name.

    Raises:
        UserError: no such kind, not a network, or none for such items.
    """
    return network_kind(name).build(item_shape, n_classes, width=width)


def network_kind(name: str) -> NetworkKind:
    """A kind that is a network.

    Raises:
        UserError: no such kind, or not a network.
    """
    kind = find_kind(name)
    if not isinstance(kind, NetworkKind):
        raise UserError(
            f"Classifier '{name}' is not a network. Use one, such as learner.kind=mlp or mnist-cnn."
        )
    return kind

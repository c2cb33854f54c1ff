"""What ``learner.kind`` may name: a network, a ``Learner``, or a scikit-learn estimator.

* a function or ``nn.Module`` class of ``(item_shape, n_classes)``, with a third parameter ``width``
  where it wants the setting of that name: gives a network from items to logits. Its last linear layer
  is found, or told by an attribute ``head`` of the network: the layer, or its dotted name. The layer's
  input is what strategies see as ``features``.
* a subclass of ``Learner``, made with ``(item_shape, n_classes, device)`` and, where it has such a
  parameter, ``settings``.
* a scikit-learn classifier: its class, or a configured object.

Our own kinds are found and made like anyone's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from alharness import plugins
from alharness.errors import UserError
from alharness.learners.learner import Learner
from alharness.learners.networks import Adopted, Classifier, HeadedNetwork
from alharness.learners.weights import load_weights


@dataclass(frozen=True)
class NetworkKind:
    """A network by what makes it.

    Attributes:
        name: what the user typed.
        make: ``(item_shape, n_classes)`` to a module, perhaps with ``width``.
    """

    name: str
    make: Callable[..., Any]

    @property
    def description(self) -> str:
        """Its docstring."""
        return inspect.getdoc(self.make) or ""


@dataclass(frozen=True)
class LearnerKind:
    """A ``Learner`` of its own."""

    name: str
    cls: type[Learner]

    @property
    def description(self) -> str:
        """Its docstring."""
        return inspect.getdoc(self.cls) or ""

    @property
    def takes_settings(self) -> bool:
        """Whether its constructor wants the settings."""
        return "settings" in inspect.signature(self.cls).parameters


@dataclass(frozen=True)
class EstimatorKind:
    """A scikit-learn classifier: the class, or an object to be cloned."""

    name: str
    estimator: Any

    @property
    def description(self) -> str:
        """The first paragraph of its docstring; scikit-learn's run to pages."""
        return (inspect.getdoc(self.estimator) or "").split("\n\n")[0]


Kind = NetworkKind | LearnerKind | EstimatorKind


def find_kind(name: str) -> Kind:
    """What a kind's name stands for.

    Raises:
        UserError: no such name, or what it names is none of the three forms.
    """
    if ":" not in name and plugins.find(plugins.LEARNERS, name) is None:
        _hint_at_scikit_learn(name)
    found = plugins.load("classifier", plugins.LEARNERS, name)
    kind = form_of(name, found)
    if kind is None:
        raise UserError(
            f"'{name}' is {plugins.describe(found)}, not a classifier. Expected a function or nn.Module "
            "class of (item_shape, n_classes), a subclass of alharness.learners.learner.Learner, or a "
            "scikit-learn classifier."
        )
    return kind


def _hint_at_scikit_learn(name: str) -> None:
    """A classifier of scikit-learn by its bare name, in any spelling.

    Raises:
        UserError: ``RandomForestClassifier`` or ``random-forest`` instead of ``sklearn.ensemble:...``.
    """
    from sklearn.utils import all_estimators

    def plain(text: str) -> str:
        return "".join(filter(str.isalnum, text.lower())).removesuffix("classifier")

    for known, cls in all_estimators(type_filter="classifier"):
        if plain(known) == plain(name):
            module = ".".join(part for part in cls.__module__.split(".") if part[0] != "_")
            raise UserError(
                f"'{name}' is a classifier of scikit-learn: --set learner.kind={module}:{known}"
            )


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
    if hasattr(found, "fit") and hasattr(found, "get_params"):
        return EstimatorKind(name, found)
    if issubclass(found, nn.Module) if is_class else callable(found):
        return NetworkKind(name, found)
    return None


def build_network(
    kind: NetworkKind,
    item_shape: tuple[int, ...],
    n_classes: int,
    *,
    width: int,
    dropout: float = 0.0,
    tensors: Mapping[str, torch.Tensor] | None = None,
) -> HeadedNetwork:
    """A fresh network on the CPU, initialised from torch's current random state.

    Args:
        width: for networks that take one.
        dropout: share of the features dropped before the last layer in training.
        tensors: weights to start from (``weights.read_weights``).

    Raises:
        UserError: there is no network of that kind for such items, or the weights are another's.
    """
    head = head_of(kind, item_shape, n_classes, width)
    network = _make(kind, item_shape, n_classes, width)
    if tensors is not None:
        load_weights(network, head, tensors, kind.name)
    if not (isinstance(network, Classifier) and isinstance(network.body, nn.Sequential)):
        return Adopted(network, head, dropout)
    if dropout > 0:
        layers = list(network.body)
        if isinstance(layers[-1], nn.Dropout):  # the setting is its share then, not a second one
            layers.pop()
        network.body = nn.Sequential(*layers, nn.Dropout(dropout))
    return network


def build_classifier(
    name: str, item_shape: tuple[int, ...], n_classes: int, width: int
) -> HeadedNetwork:
    """``build_network`` by name.

    Raises:
        UserError: no such kind, not a network, or none for such items.
    """
    kind = find_kind(name)
    if not isinstance(kind, NetworkKind):
        raise UserError(f"Classifier '{name}' is not a network. Use one, such as mlp or mnist-cnn.")
    return build_network(kind, item_shape, n_classes, width=width)


def _make(kind: NetworkKind, item_shape: tuple[int, ...], n_classes: int, width: int) -> nn.Module:
    """The plug-in's own network.

    Raises:
        UserError: it cannot be made for such items, or is not a module.
    """
    options = {"width": width} if "width" in inspect.signature(kind.make).parameters else {}
    try:
        network = kind.make(item_shape, n_classes, **options)
    except UserError:
        raise
    except Exception as error:
        raise _does_not_fit(kind, item_shape, error) from error
    if not isinstance(network, nn.Module):
        raise UserError(
            f"Classifier '{kind.name}' gave {plugins.describe(network)} for (item_shape, n_classes); "
            "expected a torch.nn.Module. Return one."
        )
    return network


def _does_not_fit(kind: NetworkKind, item_shape: tuple[int, ...], error: Exception) -> UserError:
    lines = str(error).splitlines() or [""]
    return UserError(
        f"Classifier '{kind.name}' does not fit items of shape {item_shape}: "
        f"{type(error).__name__}: {lines[0]}. Mend it, or use another one, for instance "
        "learner.kind=mlp."
    )


@lru_cache(maxsize=32)
def head_of(kind: NetworkKind, item_shape: tuple[int, ...], n_classes: int, width: int) -> str:
    """Dotted name of the layer that gives the logits, from a trial on two items of random values.

    Raises:
        UserError: the network does not fit the items or gives no logits of a linear layer.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = _make(kind, item_shape, n_classes, width).eval()
        outputs: dict[str, torch.Tensor] = {}

        def listen(name: str, layer: nn.Linear) -> None:
            def keep(module: nn.Module, given: Any, output: torch.Tensor) -> None:
                outputs[name] = output

            layer.register_forward_hook(keep)

        for name, layer in network.named_modules():
            if isinstance(layer, nn.Linear):
                listen(name, layer)
        try:
            # Not zeros: a layer beside the head that has no bias would not show.
            items = torch.rand(2, *item_shape)
            again = network(items)
            logits = network(items)
        except Exception as error:
            raise _does_not_fit(kind, item_shape, error) from error
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else plugins.describe(logits)
    if shape != (2, n_classes):
        raise UserError(
            f"Classifier '{kind.name}' must give logits [B, {n_classes}] for items [B, "
            f"{', '.join(map(str, item_shape))}]; two items gave {shape}. Mend its last layer."
        )
    if not bool(logits.isfinite().all()):
        raise UserError(
            f"Classifier '{kind.name}' gives logits that are not finite for two items of values between 0 "
            "and 1, before any training. Mend it."
        )
    told = getattr(network, "head", None)
    names = {layer: name for name, layer in network.named_modules()}
    if isinstance(told, nn.Module):
        told = names.get(told)
    if told is None:
        told = next((name for name in reversed(outputs) if outputs[name].shape == shape), None)
    if told is None or told not in outputs or not torch.equal(outputs[told], logits):
        if not torch.equal(again, logits):
            raise UserError(
                f"Classifier '{kind.name}' gives other logits each time for the same items, in evaluation "
                "mode too. Use nn.Dropout and the like, which eval() switches off, or derive a class from "
                "alharness.learners.learner.Learner."
            )
        raise UserError(
            f"Classifier '{kind.name}' must return the output of a linear layer (logits, without "
            "softmax). Return that, name the layer in an attribute 'head' of the network, or derive "
            "a class from alharness.learners.learner.Learner."
        )
    return told

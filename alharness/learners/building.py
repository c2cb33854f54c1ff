"""Networks from what makes them: the head is found, weights are loaded, dropout is set.

A network gives logits from a linear layer, its head, whose input is what strategies see as ``features``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from alharness.errors import UserError
from alharness.learners.headed import Adopted, Classifier, HeadedNetwork
from alharness.learners.weights import load_weights
from alharness.plugins import describe

#: ``(item_shape, n_classes)`` to a module, perhaps with ``width``.
NetworkMaker = Callable[..., Any]


def build_network(
    name: str,
    make: NetworkMaker,
    item_shape: tuple[int, ...],
    n_classes: int,
    *,
    width: int,
    dropout: float = 0.0,
    tensors: Mapping[str, torch.Tensor] | None = None,
) -> HeadedNetwork:
    """A fresh network on the CPU, initialised from torch's current random state.

    Args:
        name: what the user typed, for messages.
        make: the network's class or function.
        width: for networks that take one.
        dropout: share of the features dropped before the last layer in training.
        tensors: weights to start from (``weights.read_weights``).

    Raises:
        UserError: there is no network of that kind for such items, or the weights are another's.
    """
    head = head_of(name, make, item_shape, n_classes, width)
    # After the trial, which left torch's random state alone: a fresh network of the run's own seed.
    network = _made(name, make, item_shape, n_classes, width)
    if tensors is not None:
        load_weights(network, head, tensors, name)
    if not (isinstance(network, Classifier) and isinstance(network.body, nn.Sequential)):
        return Adopted(network, head, dropout)
    if dropout > 0:
        layers = list(network.body)
        if isinstance(layers[-1], nn.Dropout):  # the setting is its share then, not a second one
            layers.pop()
        network.body = nn.Sequential(*layers, nn.Dropout(dropout))
    return network


def _made(
    name: str, make: NetworkMaker, item_shape: tuple[int, ...], n_classes: int, width: int
) -> nn.Module:
    """The plug-in's own network.

    Raises:
        UserError: it cannot be made for such items, or is not a module.
    """
    options = {"width": width} if "width" in inspect.signature(make).parameters else {}
    try:
        network = make(item_shape, n_classes, **options)
    except UserError:
        raise
    except Exception as error:
        raise _does_not_fit(name, item_shape, error) from error
    if not isinstance(network, nn.Module):
        raise UserError(
            f"Classifier '{name}' gave {describe(network)} for (item_shape, n_classes); "
            "expected a torch.nn.Module. Return one."
        )
    return network


def _does_not_fit(name: str, item_shape: tuple[int, ...], error: Exception) -> UserError:
    lines = str(error).splitlines() or [""]
    return UserError(
        f"Classifier '{name}' does not fit items of shape {item_shape}: "
        f"{type(error).__name__}: {lines[0]}. Mend it, or use another one, for instance "
        "learner.kind=mlp."
    )


@lru_cache(maxsize=32)
def head_of(
    name: str, make: NetworkMaker, item_shape: tuple[int, ...], n_classes: int, width: int
) -> str:
    """Dotted name of the layer that gives the logits, from a trial on two items of random values.

    Raises:
        UserError: the network does not fit the items or gives no logits of a linear layer.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        # In evaluation mode: dropout would give two outputs for one item.
        network = _made(name, make, item_shape, n_classes, width).eval()
        outputs: dict[str, torch.Tensor] = {}

        def listen(path: str, layer: nn.Linear) -> None:
            def keep(module: nn.Module, given: Any, output: torch.Tensor) -> None:
                outputs[path] = output

            layer.register_forward_hook(keep)

        for path, layer in network.named_modules():
            if isinstance(layer, nn.Linear):
                listen(path, layer)
        try:
            # Not zeros: a layer beside the head that has no bias would not show.
            items = torch.rand(2, *item_shape)
            again = network(items)
            logits = network(items)
        except Exception as error:
            raise _does_not_fit(name, item_shape, error) from error
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else describe(logits)
    if shape != (2, n_classes):
        raise UserError(
            f"Classifier '{name}' must give logits [B, {n_classes}] for items [B, "
            f"{', '.join(map(str, item_shape))}]; two items gave {shape}. Mend its last layer."
        )
    if not bool(logits.isfinite().all()):
        raise UserError(
            f"Classifier '{name}' gives logits that are not finite for two items of values between 0 "
            "and 1, before any training. Mend it."
        )
    head = getattr(network, "head", None)
    if isinstance(head, nn.Module):
        head = next((path for path, layer in network.named_modules() if layer is head), None)
    if head is None:  # the last of the layers whose output looks like logits
        head = next((path for path in reversed(outputs) if outputs[path].shape == shape), None)
    # A softmax or a scaling behind the layer would make its weights tell nothing of the logits.
    if head is None or head not in outputs or not torch.equal(outputs[head], logits):
        if not torch.equal(again, logits):
            raise UserError(
                f"Classifier '{name}' gives other logits each time for the same items, in evaluation "
                "mode too. Use nn.Dropout and the like, which eval() switches off, or derive a class from "
                "alharness.learners.learner.Learner."
            )
        raise UserError(
            f"Classifier '{name}' must return the output of a linear layer (logits, without "
            "softmax). Return that, name the layer in an attribute 'head' of the network, or derive "
            "a class from alharness.learners.learner.Learner."
        )
    return head

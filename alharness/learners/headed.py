"""Networks seen as features and a head: ``features`` is layer l-1, ``last_layer`` the last linear layer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection
from typing import Any, cast

import torch
from torch import nn

#: A part of a network as a function of a batch.
Half = Callable[[torch.Tensor], torch.Tensor]


class HeadedNetwork(nn.Module):
    """A network whose output is a linear layer's."""

    @property
    @abstractmethod
    def last_layer(self) -> nn.Linear:
        """The layer that gives the logits."""

    @abstractmethod
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Input of the last layer, ``[B, D]``: F_CLS of Sec. 3.2."""

    def halves(self, layers: Collection[nn.Module]) -> tuple[Half, Half]:
        """The network as two functions, one after the other: before all of these layers, and the rest.

        The first is as long as this network's kind can tell; for any network it may do nothing.
        """
        return nn.Identity(), self


class Classifier(HeadedNetwork):
    """A body that computes features ``[B, D]`` and a linear head on them."""

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    @property
    def last_layer(self) -> nn.Linear:
        return self.head

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.body(images))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.head(self.features(images)))

    def halves(self, layers: Collection[nn.Module]) -> tuple[Half, Half]:
        parts = list(self.body) if isinstance(self.body, nn.Sequential) else [self.body]
        first = (
            number
            for number, part in enumerate(parts)
            if any(module in layers for module in part.modules())
        )
        at = next(first, len(parts))
        return nn.Sequential(*parts[:at]), nn.Sequential(*parts[at:], self.head)


class Adopted(HeadedNetwork):
    """Anyone's network, seen as features and a head, with dropout between the two.

    Args:
        network: items to logits.
        head: dotted name of the linear layer that gives its logits.
        dropout: share of the features dropped in training.
    """

    def __init__(self, network: nn.Module, head: str, dropout: float = 0.0) -> None:
        super().__init__()
        self.network = network
        self.dropout = nn.Dropout(dropout)
        self.head_name = head
        self._seen: torch.Tensor | None = None
        self.last_layer.register_forward_pre_hook(self._before_head)

    @property
    def last_layer(self) -> nn.Linear:
        return cast(nn.Linear, self.network.get_submodule(self.head_name))

    def _before_head(self, head: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        # The head's input is the only place where features of a foreign network are known for certain.
        self._seen = given[0]
        return (self.dropout(given[0]), *given[1:])

    def halves(self, layers: Collection[nn.Module]) -> tuple[Half, Half]:
        if any(module in layers for module in self.network.modules()):
            return super().halves(layers)  # somewhere in a network that is not ours to take apart

        def rest(features: torch.Tensor) -> torch.Tensor:
            logits = self.last_layer(features)
            self._seen = None
            return cast(torch.Tensor, logits)

        return self.features, rest

    def features(self, images: torch.Tensor) -> torch.Tensor:
        self.network(images)
        seen, self._seen = self._seen, None
        assert seen is not None  # ``find_head`` saw the head at work
        return seen

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        self._seen = None  # would keep the graph alive
        return logits


def dropout_layers(network: nn.Module) -> list[nn.Module]:
    """Layers that drop features or channels in training."""
    return [
        module
        for module in network.modules()
        if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d)
        and module.p > 0
    ]

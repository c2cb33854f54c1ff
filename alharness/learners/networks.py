"""Networks of the classifiers: ``features`` is layer l-1, ``last_layer`` the last linear layer.

All take float32 images in [0, 1], ``[B, C, H, W]``, and give logits ``[B, n_classes]``.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Collection
from typing import Any, cast

import torch
from torch import nn

from alharness.errors import UserError

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


def _convolutional(body: nn.Module, head: nn.Linear) -> Classifier:
    """A network of convolutions, its weights channels last: what a CPU's kernels are fastest with.

    Measured on one core with pieces of equal size, images of a pass per second: 1.7 times as many
    through ``mnist-cnn``, 1.2 times through ``all-cnn``; a step of training takes nine tenths of the time.
    """
    return Classifier(body, head).to(memory_format=torch.channels_last)


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


def _needs_images(name: str, item_shape: tuple[int, ...]) -> None:
    """Refuse rows, with a way out."""
    if len(item_shape) != 3:
        raise UserError(
            f"Classifier '{name}' needs images [C, H, W]; this task's items have shape "
            f"{item_shape}. Use learner.kind=mlp or learner.kind=linear."
        )


def mnist_cnn(item_shape: tuple[int, ...], n_classes: int, width: int) -> Classifier:
    """Two 5x5 convolutions with pooling and one hidden layer (decisions 1.8; not given in the paper)."""
    _needs_images("mnist-cnn", item_shape)
    channels, height, rows = item_shape
    body = nn.Sequential(
        nn.Conv2d(channels, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (rows // 4), width),
        nn.ReLU(),
        nn.Dropout(0.5),
    )
    return _convolutional(body, nn.Linear(width, n_classes))


def all_cnn(item_shape: tuple[int, ...], n_classes: int, width: int) -> Classifier:
    """All-CNN-C of Springenberg et al. 2015 (reference 21 of the paper), width 96 (decisions 1.8).

    The last 1x1 convolution to the classes commutes with global average pooling, so it stands
    behind the pooling as a linear head: the features are the pooled output of the layer before.
    """
    _needs_images("all-cnn", item_shape)
    channels = item_shape[0]
    wide = 2 * width
    body = nn.Sequential(
        nn.Dropout(0.2),
        *_conv_relu(channels, width),
        *_conv_relu(width, width),
        *_conv_relu(width, width, stride=2),
        nn.Dropout(0.5),
        *_conv_relu(width, wide),
        *_conv_relu(wide, wide),
        *_conv_relu(wide, wide, stride=2),
        nn.Dropout(0.5),
        *_conv_relu(wide, wide, padding=0),
        *_conv_relu(wide, wide, kernel=1, padding=0),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return _convolutional(body, nn.Linear(wide, n_classes))


def strided_cnn(item_shape: tuple[int, ...], n_classes: int, width: int) -> Classifier:
    """Strided 3x3 convolutions width, 2, 4, 8 x width, then global average (decisions 1.8, CelebA/LSUN).

    As many halvings as the image bears, at most four, so that small images work too.
    """
    _needs_images("strided-cnn", item_shape)
    channels, height, columns = item_shape
    n_layers = max(1, min(4, int(math.log2(max(2, min(height, columns)))) - 1))
    layers: list[nn.Module] = []
    for depth in range(n_layers):
        out = width << depth
        layers += _conv_relu(channels, out, stride=2)
        channels = out
    body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return _convolutional(body, nn.Linear(channels, n_classes))


def mlp(item_shape: tuple[int, ...], n_classes: int, width: int) -> Classifier:
    """One hidden layer on flattened items: for tiny images and for rows of features."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(item_shape), width), nn.ReLU())
    return Classifier(body, nn.Linear(width, n_classes))


def _conv_relu(
    channels: int, out: int, *, kernel: int = 3, stride: int = 1, padding: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, kernel, stride=stride, padding=padding)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(cast(torch.Tensor, conv.bias))
    return [conv, nn.ReLU()]


def dropout_layers(network: nn.Module) -> list[nn.Module]:
    """Layers that drop features or channels in training."""
    return [
        module
        for module in network.modules()
        if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d)
        and module.p > 0
    ]

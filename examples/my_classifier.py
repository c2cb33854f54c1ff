"""A classifier of one's own: a torch module of ``(item_shape, n_classes)``.

    alharness run --strategy margin --dataset digits-ten --set learner.kind=./examples/my_classifier.py:Net

It is trained from scratch in each cycle, by the same recipe as the harness's own networks. The input of
its last linear layer is what strategies see as features.
"""

from __future__ import annotations

import math

import torch
from torch import nn


class Net(nn.Module):
    """Two small layers with a residual connection, from pixels ``[N, ...]`` to logits ``[N, C]``."""

    def __init__(self, item_shape: tuple[int, ...], n_classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(math.prod(item_shape), 48)
        self.mix = nn.Linear(48, 48)
        self.head = nn.Linear(48, n_classes)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        embedded = self.embed(items.flatten(1)).relu()
        logits: torch.Tensor = self.head(embedded + self.mix(embedded).relu())
        return logits

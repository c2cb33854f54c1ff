"""ASAL, matched by the features of a network that was trained on other images: VGG.

C. Mayer, R. Timofte, "Adversarial Sampling for Active Learning", WACV 2020: Algorithm 1, with the F of
Eq. 2 that Sec. 6 suggests to study; K. Simonyan, A. Zisserman, "Very Deep Convolutional
Networks for Large-Scale Image Recognition", ICLR 2015: the network.

Differs from the paper: it does not say which layer; the harness's constants of ASAL apply. Features are a
block of convolutions averaged over the image, so that images of any size have the same number; grey
images are shown in three equal channels; images smaller than 32 pixels are enlarged, because five
halvings leave nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Literal

from pydantic import Field

from alharness.errors import UserError
from alharness.lazily import functional, nn, torch
from alharness.learners.weights import read_weights, weights_identity
from alharness.matching import FeatureExtractor
from alharness.strategy import Adaptation, Parameters, Preparation
from alharness_strategies.asal import Asal, AsalParameters

#: Where ``alharness list`` shows it.
FAMILY = "ASAL: synthetic samples matched in the pool (needs a generator, trained once)"

SETTING = "strategy.weights"
#: Means and standard deviations of the channels that torchvision's weights were trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Sides of an image that five halvings bear.
SMALLEST = 32


class AsalVggParameters(AsalParameters):
    """What may be set with ``--set strategy.NAME=VALUE``."""

    network: Literal["vgg11", "vgg13", "vgg16", "vgg19"] = Field(
        "vgg16",
        description="which of torchvision's networks",
        json_schema_extra={"seen_elsewhere": "needs weights: tests/reference/test_asal_vgg.py"},
    )
    weights: str = Field(
        "",
        description="a file of its weights (features.*), or IMAGENET1K_V1, which torchvision fetches; needed",
    )
    blocks: int = Field(
        5,
        ge=1,
        le=5,
        description="blocks of convolutions; the last one's output",
        json_schema_extra={"seen_elsewhere": "needs weights: tests/reference/test_asal_vgg.py"},
    )


class AsalVgg(Asal):
    """ASAL, matched by the features of a VGG network trained on other images."""

    Parameters: ClassVar[type[Parameters]] = AsalVggParameters
    parameters: AsalVggParameters
    source = "Mayer & Timofte 2020, Sec. 6; Simonyan & Zisserman 2015"
    vgg: FeatureExtractor

    def identity(self) -> Mapping[str, str]:
        given = self.parameters
        if not given.weights:
            raise UserError(
                f"This strategy needs weights of {given.network}: --set {SETTING}=FILE (what torch.save("
                f"torchvision.models.{given.network}(...).state_dict(), path) writes), or "
                f"{SETTING}=IMAGENET1K_V1, which torchvision fetches once (half a gigabyte)."
            )
        weights = weights_identity(given.network, given.weights, SETTING)
        return {**super().identity(), SETTING: weights}

    def prepare(self, preparation: Preparation) -> Adaptation | None:
        # First: what is missing is said before a generator is trained.
        self.vgg = self.read(preparation.device)
        return super().prepare(preparation)

    def extractor(self, preparation: Preparation) -> FeatureExtractor:
        return self.vgg

    def read(self, device: torch.device) -> FeatureExtractor:
        """F of Eq. 2."""
        given, identity = self.parameters, self.identity()[SETTING]
        layers = blocks(given.network, given.blocks)
        fill(layers, read_weights(given.network, given.weights, SETTING), given.network)
        layers = layers.to(device).eval().requires_grad_(False)
        key = f"{given.network} {given.blocks} blocks {identity}"
        return FeatureExtractor("vgg", key, partial(features_of, layers))


def blocks(network: str, n: int) -> nn.Sequential:
    """The first blocks of a network's convolutions, each with the pooling that ends it."""
    from torchvision import models

    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # weights are given, not drawn
        layers = list(models.get_model(network, weights=None).features)
    ends = [at + 1 for at, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    return nn.Sequential(*layers[: ends[n - 1]]).to_empty(device="cpu")


def fill(layers: nn.Sequential, tensors: Mapping[str, torch.Tensor], network: str) -> None:
    """Put the tensors ``features.*`` into the layers; those of others are left where they are.

    Raises:
        UserError: a tensor is missing or of another shape, by name.
    """
    for name, own in layers.state_dict().items():
        found = tensors.get(f"features.{name}")
        if found is None or found.shape != own.shape:
            what = "is missing" if found is None else f"has shape {tuple(found.shape)}"
            raise UserError(
                f"{SETTING} do not fit {network}: 'features.{name}' {what}, expected shape "
                f"{tuple(own.shape)}. Give what torch.save(torchvision.models.{network}(...)"
                ".state_dict(), path) writes, or another strategy.network."
            )
        own.copy_(found)


def features_of(layers: nn.Sequential, images: torch.Tensor) -> torch.Tensor:
    """Images ``[B, 1 or 3, H, W]`` in [0, 1] to features ``[B, D]``."""
    if min(images.shape[2:]) < SMALLEST:
        factor = SMALLEST / min(images.shape[2:])
        size = [round(side * factor) for side in images.shape[2:]]
        images = functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
    images = images.expand(-1, 3, -1, -1)
    mean, std = images.new_tensor(MEAN), images.new_tensor(STD)
    shown = (images - mean[:, None, None]) / std[:, None, None]
    found: torch.Tensor = layers(shown).mean(dim=(2, 3))
    return found

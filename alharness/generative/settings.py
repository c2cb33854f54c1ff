"""How generators and auto-encoders are made: named recipes, and settings that change one.

A recipe holds every number of a training; its origin stands beside it. Settings are what a user
may change (``--set generator.steps=5000``); a field left open takes the recipe's value, and the
recipe itself follows from the profile and the shape of the images.

The paper names its generators (Table 1) and refers to two code bases for their details
(references 5 and 23): igul222/improved_wgan_training and biuyq/CT-GAN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from alharness.artefacts.keys import identity
from alharness.errors import UserError, unknown_name
from alharness.frozen import Frozen

Precision = Literal["float32", "tf32", "bf16"]
#: ``bf16`` is autocast, with the gradient penalty in float32; ``bf16-all`` rounds that too (``rounding``).
GeneratorPrecision = Literal["float32", "tf32", "bf16", "bf16-all"]


class GeneratorRecipe(Frozen):
    """All numbers of one WGAN-GP or WGAN-CT training; hashed into the artefact's identity.

    Defaults are those that the reference scripts share (decisions 7).
    """

    recipe: str = Field(description="name of the recipe that the numbers started from")
    network: Literal["fc", "conv", "resnet", "resnet-good"]
    width: int = Field(ge=1, description="DIM of the reference scripts; units of the fc layers")
    latent_dim: int = Field(128, ge=1, description="z ~ N(0, I_128) in every reference script")
    batch_norm: bool = Field(False, description="batch normalisation in the generator")
    signed: bool = Field(False, description="networks see pixels in [-1, 1] instead of [0, 1]")
    steps: int = Field(ge=1, description="generator steps")
    batch_size: int = Field(64, ge=2)
    generator_batch_factor: int = Field(1, ge=1, description="2 in the ResNet script")
    critic_steps: int = Field(5, ge=1, description="critic steps per generator step")
    lr: float = Field(1e-4, gt=0)
    beta1: float = Field(0.5, ge=0, lt=1)
    beta2: float = Field(0.9, ge=0, lt=1)
    lr_decay: bool = Field(False, description="linear decay of the step size to 0")
    penalty: float = Field(10.0, ge=0, description="lambda of the gradient penalty")
    consistency: float = Field(0.0, ge=0, description="lambda2 of CT; 0 leaves the term out")
    consistency_margin: float = Field(0.0, ge=0, description="M' of CT (0 in the code)")
    dropout: bool = Field(False, description="dropout in the critic (CT only)")
    dequantise: bool = Field(False, description="add uniform noise below one grey level to images")
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of the generator's moving average; 0: off"
    )
    precision: GeneratorPrecision = Field("float32", description="of forward and backward on CUDA")
    folded: bool = Field(
        False,
        description="residual blocks by fewer operations, which round otherwise (decisions 7)",
        json_schema_extra={"added": "0.3.0"},
    )
    seed: int = 0


class AutoencoderRecipe(Frozen):
    """All numbers of one auto-encoder training (Sec. 3.2: squared error; sizes are ours, decisions 1.5)."""

    recipe: str
    network: Literal["fc", "conv"]
    width: int = Field(
        ge=1, description="channels of the first convolution; units of the fc layers"
    )
    code_dim: int = Field(128, ge=1, description="at least 50, or PCA to 50 is void; equal to z")
    signed: bool = False
    steps: int = Field(ge=1, description="optimiser steps")
    batch_size: int = Field(128, ge=1)
    lr: float = Field(1e-3, gt=0)
    denoise_sigma: float = Field(0.0, ge=0, description="noise on the input while training")
    held_out: float = Field(
        0.05, gt=0, lt=1, description="share of the pool that picks the best state"
    )
    precision: Precision = "float32"
    seed: int = 0


#: Recipes below are constants: a test checks each, so that whoever reads settings waits for no validator.
_generator = GeneratorRecipe.model_construct
_autoencoder = AutoencoderRecipe.model_construct

#: Generators by name. "steps" of the large ones: losses and samples flatten long before the 200k of
#: the scripts (decisions 7, our choice); the 28x28 script trains with batch 50.
GENERATOR_RECIPES: dict[str, GeneratorRecipe] = {
    recipe.recipe: recipe
    for recipe in (
        # Ours, for `quick`: seconds on 8x8 digits, minutes on two CPU cores for the others. Narrow
        # convolutions with a large step cost as much as three fully connected layers of 512 (decisions
        # 11) and lie closer to real images in pixels: on mnist-two, Fréchet distance .83 after
        # 2,000 steps against 1.24 after 2,500 (both about 285 s on one core), coverage .94, .91.
        _generator(
            recipe="fc-8", network="fc", width=128, latent_dim=64, steps=700, lr=5e-4, batch_size=64
        ),
        _generator(recipe="fc", network="fc", width=512, steps=2_500, batch_size=64, lr=2e-4),
        _generator(
            recipe="conv-narrow", network="conv", width=16, steps=2_000, batch_size=50, lr=1e-3
        ),
        _generator(
            recipe="conv-narrow-64", network="conv", width=8, steps=1_200, batch_size=50, lr=1e-3
        ),
        # gan_mnist.py, gan_cifar.py, gan_cifar_resnet.py with and without CT, gan_64x64.py. TF32 where
        # the hours go into convolutions; a step on 28x28 is bound by launches, not by products.
        _generator(recipe="conv-28", network="conv", width=64, steps=30_000, batch_size=50),
        _generator(
            recipe="conv-32",
            network="conv",
            width=64,
            batch_norm=True,
            signed=True,
            steps=50_000,
            precision="tf32",
        ),
        _generator(
            recipe="conv-64",
            network="conv",
            width=64,
            batch_norm=True,
            signed=True,
            steps=50_000,
            precision="tf32",
        ),
        _generator(
            recipe="resnet-32",
            network="resnet",
            width=128,
            batch_norm=True,
            signed=True,
            steps=100_000,
            generator_batch_factor=2,
            lr=2e-4,
            beta1=0.0,
            lr_decay=True,
            dequantise=True,
            precision="tf32",
        ),
        _generator(
            recipe="resnet-32-ct",
            network="resnet",
            width=128,
            batch_norm=True,
            signed=True,
            steps=100_000,
            generator_batch_factor=2,
            lr=2e-4,
            beta1=0.0,
            lr_decay=True,
            dequantise=True,
            consistency=2.0,
            dropout=True,
            precision="tf32",
        ),
        _generator(
            recipe="resnet-64",
            network="resnet-good",
            width=64,
            batch_norm=True,
            signed=True,
            steps=50_000,
            beta1=0.0,
            precision="tf32",
        ),
    )
}

#: The images [C, H, W] that each generator recipe was written for: what tests and benchmarks use.
WRITTEN_FOR: dict[str, tuple[int, int, int]] = {
    "fc-8": (1, 8, 8),
    "fc": (1, 28, 28),
    "conv-narrow": (1, 28, 28),
    "conv-narrow-64": (3, 64, 64),
    "conv-28": (1, 28, 28),
    "conv-32": (3, 32, 32),
    "conv-64": (3, 64, 64),
    "resnet-32": (3, 32, 32),
    "resnet-32-ct": (3, 32, 32),
    "resnet-64": (3, 64, 64),
}

#: Auto-encoders by name; steps are about the epochs of decisions 1.5 on the paper's pools.
AUTOENCODER_RECIPES: dict[str, AutoencoderRecipe] = {
    recipe.recipe: recipe
    for recipe in (
        _autoencoder(recipe="fc-8", network="fc", width=128, code_dim=32, steps=600, batch_size=64),
        _autoencoder(recipe="fc", network="fc", width=512, steps=1_000),
        _autoencoder(recipe="conv-small", network="conv", width=16, steps=1_000),
        _autoencoder(recipe="conv-28", network="conv", width=64, steps=4_000),
        _autoencoder(recipe="conv-32", network="conv", width=64, signed=True, steps=4_000),
        _autoencoder(recipe="conv-64", network="conv", width=64, signed=True, steps=25_000),
    )
}

#: Identity of float32 where the recipe has another precision of its own.
_ASKED = "float32, asked for"


def recipe_values(recipe: GeneratorRecipe | AutoencoderRecipe) -> dict[str, Any]:
    """A recipe as artefacts and checkpoints name it: plain values.

    A generator's ``precision`` is left as version 0.1.0 wrote it, when every recipe had ``float32``: that
    word stands for the recipe's own choice, which moves no bit on a CPU and on CUDA is as little part of the
    identity as the device is. Asking for float32 where the recipe has another gets a word of its own.
    """
    values = identity(recipe)
    if isinstance(recipe, AutoencoderRecipe):
        return values
    own = _own_precision(recipe.recipe)
    if recipe.precision == own:
        values["precision"] = "float32"
    elif recipe.precision == "float32":
        values["precision"] = _ASKED
    return values


def recipe_of(values: Mapping[str, Any]) -> GeneratorRecipe:
    """The recipe behind ``recipe_values``."""
    precision = values["precision"]
    if precision == "float32":
        precision = _own_precision(values["recipe"])
    elif precision == _ASKED:
        precision = "float32"
    return GeneratorRecipe(**{**values, "precision": precision})


def _own_precision(name: str) -> GeneratorPrecision:
    recipe = GENERATOR_RECIPES.get(name)
    return recipe.precision if recipe is not None else "float32"


#: Table 1 names a WGAN-CT for this task; every other one has a WGAN-GP of its image size.
TABLE_1 = {"cifar10-ten": "resnet-32-ct"}


class GeneratorSettings(Frozen):
    """What a user may set about the generator; open fields take the recipe's value."""

    recipe: str = Field("auto", description="auto, or " + ", ".join(GENERATOR_RECIPES))
    steps: int | None = Field(None, ge=1, description="generator steps")
    batch_size: int | None = Field(None, ge=2, description="images per step")
    width: int | None = Field(None, ge=1, description="width of the networks")
    latent_dim: int | None = Field(None, ge=1, description="dimensions of z")
    critic_steps: int | None = Field(None, ge=1, description="critic steps per generator step")
    lr: float | None = Field(None, gt=0, description="Adam's step size")
    penalty: float | None = Field(None, ge=0, description="lambda of the gradient penalty")
    consistency: float | None = Field(None, ge=0, description="lambda2 of the consistency term")
    ema: float | None = Field(
        None, ge=0, lt=1, description="moving average of the generator; 0: off"
    )
    precision: GeneratorPrecision | None = Field(
        None, description="float32, tf32, bf16 or bf16-all, the penalty's slopes too (CUDA)"
    )
    folded: bool | None = Field(
        None,
        description="residual blocks by fewer operations, which round otherwise",
        json_schema_extra={"added": "0.3.0"},
    )
    seed: int = Field(0, description="one generator serves all runs: not the run's seed")

    def resolve(self, profile: str, item_shape: tuple[int, ...], task: str = "") -> GeneratorRecipe:
        """All numbers of the training.

        Raises:
            UserError: an unknown recipe, or items that are not images.
        """
        name = self.recipe
        if name == "auto":
            size = _image_size(item_shape)
            if profile == "paper":
                name = TABLE_1.get(task) or _by_size(
                    size, {8: "fc-8", 28: "conv-28", 32: "conv-32"}, "resnet-64"
                )
            else:
                name = _by_size(size, {8: "fc-8", 32: "conv-narrow"}, "conv-narrow-64")
        if name not in GENERATOR_RECIPES:
            raise unknown_name("generator recipe", name, ["auto", *GENERATOR_RECIPES])
        given = _given(self)
        # Without masks both passes are one, and the term is 0 whatever its weight.
        if given.get("consistency"):
            given["dropout"] = True  # the consistency term compares two dropout masks
        return GENERATOR_RECIPES[name].model_copy(update=given)


class AutoencoderSettings(Frozen):
    """What a user may set about the auto-encoder; open fields take the recipe's value."""

    recipe: str = Field("auto", description="auto, or " + ", ".join(AUTOENCODER_RECIPES))
    steps: int | None = Field(None, ge=1, description="optimiser steps")
    batch_size: int | None = Field(None, ge=1, description="images per step")
    width: int | None = Field(None, ge=1, description="width of the networks")
    code_dim: int | None = Field(None, ge=1, description="dimensions of the code")
    lr: float | None = Field(None, gt=0, description="Adam's step size")
    denoise_sigma: float | None = Field(None, ge=0, description="noise on the input; 0: none")
    precision: Precision | None = Field(None, description="float32, tf32 or bf16 (CUDA)")
    seed: int = Field(0, description="one auto-encoder serves all runs: not the run's seed")

    def resolve(
        self, profile: str, item_shape: tuple[int, ...], task: str = ""
    ) -> AutoencoderRecipe:
        """All numbers of the training.

        Raises:
            UserError: an unknown recipe, or items that are not images.
        """
        name = self.recipe
        if name == "auto":
            size = _image_size(item_shape)
            if profile == "paper":
                name = _by_size(size, {8: "fc-8", 28: "conv-28", 32: "conv-32"}, "conv-64")
            else:
                name = _by_size(size, {8: "fc-8", 32: "fc"}, "conv-small")
        if name not in AUTOENCODER_RECIPES:
            raise unknown_name("auto-encoder recipe", name, ["auto", *AUTOENCODER_RECIPES])
        return AUTOENCODER_RECIPES[name].model_copy(update=_given(self))


def _given(settings: BaseModel) -> dict[str, Any]:
    """What the user set; the recipe's name stays the resolved one."""
    values = settings.model_dump(exclude={"recipe"})
    return {name: value for name, value in values.items() if value is not None}


def _image_size(item_shape: tuple[int, ...]) -> int:
    if len(item_shape) != 3:
        raise UserError(
            f"A generator needs images [C, H, W]; this task's items have shape {item_shape}."
        )
    return max(item_shape[1:])


def _by_size(size: int, limits: dict[int, str], larger: str) -> str:
    """The first name whose limit the image's larger side does not pass."""
    for limit, name in limits.items():
        if size <= limit:
            return name
    return larger

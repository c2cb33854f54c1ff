"""How classifiers are trained, as a run's settings say it. Imports no torch: a spec holds it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from alharness.frozen import Frozen


class LearnerSettings(Frozen):
    """How classifiers are trained: one recipe per task, part of the protocol fingerprint."""

    kind: str = Field(
        "linear", description="a name of 'alharness list learners', module:Class or ./file.py:Class"
    )
    c: float = Field(
        1.0, gt=0, description="inverse L2 strength of the linear model (decisions 8.2)"
    )
    width: int = Field(128, ge=1, description="width of the network")
    lr: float = Field(1e-3, gt=0, description="Adam's step size")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay of the network")
    batch_size: int = Field(50, ge=1, description="images per optimiser step")
    epochs: int = Field(20, ge=0, description="passes over the labelled set")
    min_steps: int = Field(
        1000, ge=1, description="floor on optimiser steps: few labels must not mean few steps"
    )
    max_iterations: int = Field(1000, ge=1, description="iterations of the linear model's solver")
    augment: Literal["none", "flip-crop"] = Field(
        "none", description="flip-crop on LSUN only (Sec. 4.2)"
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the network's features dropped before its last layer in training",
        json_schema_extra={"added": "0.2"},
    )
    members: int = Field(
        1,
        ge=1,
        description="classifiers that are trained side by side and averaged",
        json_schema_extra={"added": "0.2"},
    )
    weights: str = Field(
        "",
        description="where the network starts: a file of weights, or torchvision's name for them",
        json_schema_extra={"added": "0.2"},
    )
    # Read, and hashed into the keys of the runs that have it; a new run with it is refused.
    pack: int = Field(
        1,
        ge=1,
        description="of runs of version 0.2.0 whose networks were trained side by side; 1",
        json_schema_extra={"added": "0.2"},
    )
    freeze: bool = Field(
        False,
        description="compute the network's features once and train a linear head on them",
        json_schema_extra={"added": "0.2"},
    )
    class_weight: Literal["none", "balanced"] = Field(
        "none",
        description="balanced: labels of a class count the more the rarer it is among the labelled ones",
        json_schema_extra={"added": "0.3"},
    )
    pseudo_labels: float = Field(
        0.0,
        ge=0,
        le=1,
        description="of the linear model: probability from which its own prediction of an unlabelled item is "
        "learned as a label; 0: labels alone",
        json_schema_extra={"added": "0.3"},
    )
    unlabelled: int = Field(
        2000,
        ge=1,
        description="unlabelled items that a fit with pseudo-labels reads, drawn from its seed",
        json_schema_extra={"added": "0.3"},
    )
    warm_start: bool = Field(
        False,
        description="a network starts from its weights of the cycle before, in place of from scratch",
        json_schema_extra={"added": "0.3"},
    )
    solver: Literal["newton", "lbfgs"] = Field(
        "newton",
        description="of the linear model; lbfgs: as versions before 0.3, whose runs go on with it",
        json_schema_extra={"added": "0.3", "before": "lbfgs"},
    )

"""How queries are annotated, as a run's settings say it. Imports no torch: a spec holds it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from alharness.errors import UserError
from alharness.frozen import Frozen


class OracleSettings(Frozen):
    """How queries are annotated."""

    mode: Literal["hard", "abstain", "noisy", "human"] = Field(
        "hard",
        description="synthetic items: most probable class; or rejected below the threshold; or "
        "drawn from the probabilities; human: a person answers every query",
    )
    threshold: float = Field(
        0.9, ge=0, le=1, description="confidence below which 'abstain' rejects (decisions 3)"
    )
    image_cost: float = Field(1.0, ge=0, description="cost of looking at an image")
    line_cost: float = Field(1.0, ge=0, description="cost of a line: one annotation in Sec. 5.3")
    annotator: str = Field("auto", description="the annotator's network, as in learner.kind")
    epochs: int = Field(5, ge=1, description="its passes over the labelled training data")
    noise: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the pool's items whose label is wrong, the same ones at equal data seeds",
        json_schema_extra={"added": "0.2"},
    )

    @model_validator(mode="after")
    def _one_who_errs(self) -> OracleSettings:
        if self.noise and self.mode == "human":
            raise UserError(
                f"oracle.noise={self.noise:g} makes wrong labels, and with oracle.mode=human a person "
                "gives them. Leave one of the two out."
            )
        return self

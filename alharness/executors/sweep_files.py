"""What a sweep file says: TOML with settings, and blocks of them. ``EXAMPLE`` shows one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from alharness.errors import UserError, explain
from alharness.files import read_toml
from alharness.frozen import Frozen

#: A sweep file with one of everything.
EXAMPLE = """\
title = "Digits, three ways to ask"

[base]                       # settings of every run
task = "digits-ten"
learner.dropout = 0.5

[[runs]]                     # one block: the product of its lists
strategy = ["random", "max-entropy", {name = "bald", n_samples = [10, 50]}]
seed = "0-9"

[[runs]]
strategy = "full"
seed = 0

[profiles.paper]             # laid over the base with --profile paper
learner.min_steps = 1000
"""


class Sweep(Frozen):
    """A sweep as its file says it."""

    name: str = Field("", description="names the sweep in MLflow; the file's name by default")
    title: str = Field("", description="heads the report")
    note: str = Field("", description="what a reader should know, shown in the report")
    split_by: list[str] = Field(
        default_factory=list, description="settings that make comparisons of their own"
    )
    base: dict[str, Any] = Field(default_factory=dict, description="settings of every run")
    runs: list[dict[str, Any]] = Field(
        min_length=1,
        description="blocks; each is the product of its lists of settings, 'seed' also takes \"0-9\"",
    )
    gain: list[dict[str, Any]] = Field(
        default_factory=list,
        description="what there is to gain, from seeds that are not judged; decides what counts as equal",
    )
    profiles: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="by profile (quick, paper): settings laid over the base under it",
    )

    @model_validator(mode="before")
    @classmethod
    def _as_called(cls, values: Any) -> Any:
        """Blocks with settings by the names that a spec has for them (``dataset`` is ``task``)."""
        from alharness.spec.binding import as_called

        if not isinstance(values, Mapping):
            return values
        given = dict(values)
        if isinstance(given.get("base"), Mapping):
            given["base"] = as_called(given["base"])
        if isinstance(given.get("runs"), list):
            given["runs"] = [as_called(b) if isinstance(b, Mapping) else b for b in given["runs"]]
        if isinstance(given.get("profiles"), Mapping):
            given["profiles"] = {
                name: as_called(block) if isinstance(block, Mapping) else block
                for name, block in given["profiles"].items()
            }
        return given

    @property
    def heading(self) -> str:
        return self.title or self.name


def read_sweep(path: Path) -> Sweep:
    """A sweep file.

    Raises:
        UserError: no such file, or not a sweep.
    """
    values = read_toml(path)
    if "runs" not in values:
        raise UserError(
            f"'{path}' has no [[runs]] block, so it is not a sweep. Write one with 'strategy' and "
            "'seed' ('alharness sweep --explain' shows how), or use 'alharness run "
            "--config' for a single run."
        )
    try:
        return Sweep.model_validate({"name": path.stem, **values})
    except ValidationError as error:
        raise UserError(f"'{path}': {explain(error, Sweep)}") from error

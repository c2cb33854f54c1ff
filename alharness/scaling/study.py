"""A timing study: what it asks for, what one measurement says, and how it lies on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from alharness.errors import UserError
from alharness.files import parse_json, refusal

#: Kind, name, n, query size and repeat: what is not measured again when a study goes on.
Key = tuple[str, str, int, int, int]

#: Phase of computing the items of a virtual pool: a stand-in for images in memory, not selection.
READ = "virtual_items"
#: Phases that are not part of the selection's time.
NOT_SELECTION = ("bookkeeping", READ)


class ScalingSpec(BaseModel):
    """What to measure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field("mnist-two", description="data set whose pool is enlarged")
    strategies: tuple[str, ...] = Field((), description="what selects")
    sizes: tuple[int, ...] = Field((10_000, 30_000, 100_000), description="pool sizes in images")
    query_sizes: tuple[int, ...] = Field((10,), description="items per selection")
    indices: tuple[str, ...] = Field((), description="indices of the study of matches")
    rows: tuple[int, ...] = Field((), description="feature rows of the study of matches")
    repeats: int = Field(5, ge=1, description="timed selections per strategy, size and query size")
    profile: Literal["quick", "paper"] = Field("quick", description="recipes of the networks")
    device: str = Field("auto", description="auto, cpu or cuda")
    seed: int = Field(0, description="of the study's labels, classifier and selections")
    networks: Literal["trained", "untrained"] = Field(
        "trained", description="untrained: generator and encoder after one step, shapes only"
    )
    resident_bytes: int = Field(
        4 << 30, ge=0, description="images of a pool are kept in memory up to here, else computed"
    )


class Measurement(BaseModel):
    """One line of ``timing.jsonl``.

    Attributes:
        kind: ``select`` or ``match`` (timed), ``prepare`` (one-off cost, repeat is 0).
        name: the strategy, or the index.
        n: pool items, or feature rows.
        query_size: items per selection; 0 for a preparation.
        repeat: number of the repetition.
        seconds: of the selection, or of building everything that had to be prepared.
        cpu_s: CPU seconds of the whole process meanwhile, of what was timed, reading virtual items included:
            what a busy machine lengthens least. None in studies from before 0.3.
        phases: seconds by phase; by ledger entry for a preparation.
        work: exact counters.
        peak_host_bytes: growth of the process's peak memory, where the system tells.
        peak_device_bytes: peak of device memory.
        feature_bytes: of the pool's features, for a preparation that computed some.
        residency: where the pool's items live.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["select", "match", "prepare"]
    name: str
    n: int
    query_size: int
    repeat: int
    seconds: float
    cpu_s: float | None = None
    phases: dict[str, float] = {}
    work: dict[str, int] = {}
    peak_host_bytes: int | None = None
    peak_device_bytes: int | None = None
    feature_bytes: int | None = None
    residency: str = ""

    @property
    def key(self) -> Key:
        """What was measured."""
        return self.kind, self.name, self.n, self.query_size, self.repeat


@dataclass(frozen=True)
class Study:
    """A finished or stopped study, as read from its folder."""

    spec: ScalingSpec
    machine: Mapping[str, Any]
    measurements: tuple[Measurement, ...]

    @property
    def hardware(self) -> str:
        """The machine in words."""
        chip = self.machine.get("gpu") or self.machine.get("cpu")
        threads, torch = self.machine.get("threads"), self.machine.get("torch")
        return f"{chip}, {threads} thread(s), torch {torch}"

    @classmethod
    def read(cls, folder: Path) -> Study:
        """The study in a folder.

        Raises:
            UserError: no study there, or a damaged line.
        """
        about_file, log = folder / "study.json", folder / "timing.jsonl"
        try:
            about = parse_json(about_file.read_text(encoding="utf-8"))
            spec, machine = ScalingSpec(**about["spec"]), dict(about["machine"])
            lines = log.read_bytes().splitlines()
        except FileNotFoundError as error:
            raise UserError(
                f"'{folder}' holds no timing study ({Path(error.filename).name} is missing). "
                "Measure one with: alharness timing --out FOLDER"
            ) from None
        except OSError as error:
            raise refusal(error, folder, "read") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"'{about_file}' is damaged ({str(error).splitlines()[0]}). Restore it, or measure "
                "again with another --out."
            ) from error
        found = []
        for number, line in enumerate(lines, 1):
            try:
                found.append(Measurement.model_validate_json(line))
            except ValueError as error:
                if number == len(lines):
                    break  # the line that a kill tore
                raise UserError(
                    f"'{log}': line {number} is damaged. Restore the file, or measure again with another "
                    "--out."
                ) from error
        return cls(spec, machine, tuple(found))

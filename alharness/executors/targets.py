"""Which runs are meant: those of directories, or those of a sweep, sorted out for comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alharness.comparison.comparison import Comparison, comparisons
from alharness.comparison.evidence import Gain, registered_in
from alharness.comparison.series import LeftOut
from alharness.errors import UserError
from alharness.executors.sweep_files import Sweep
from alharness.executors.sweeps import Job, read_jobs
from alharness.records import Run, read_runs
from alharness.records.published import ENDING, archives_of, read_published


@dataclass(frozen=True)
class Found:
    """Runs that somebody named.

    Attributes:
        heading, note: for the reader.
        sweep: name of the sweep in MLflow; empty for directories.
        comparisons: the runs, sorted out.
        gains: what there is to gain, as the sweep's file registers it.
    """

    heading: str
    note: str
    sweep: str
    comparisons: list[Comparison]
    gains: tuple[Gain, ...] = ()

    @property
    def unreadable(self) -> list[LeftOut]:
        """Runs that cannot be read: what is shown is not all."""
        return [
            item
            for comparison in self.comparisons
            for item in comparison.left_out
            if item.state == "unreadable"
        ]


def found_below(
    folders: Sequence[Path], *, split_by: Sequence[str] = (), labels: Mapping[str, str]
) -> Found:
    """All runs below some directories, or in files of published records.

    Raises:
        UserError: no runs there, or protocols that differ.
    """
    runs: list[Run] = []
    for folder in folders:
        if folder.name.endswith(ENDING):
            runs += read_published(folder)
        else:
            runs += read_runs(folder)
    heading = f"Runs of {', '.join(map(str, folders))}"
    return Found(heading, "", "", comparisons(runs, split_by=split_by, labels=labels))


def found_published(
    path: Path, *, split_by: Sequence[str] = (), labels: Mapping[str, str]
) -> Found:
    """All studies in a file of published records, or below a folder of such files.

    Each file is a study of its own, however alike two of them are: their runs are never pooled, and the title
    names the study where two are of one task.

    Raises:
        UserError: no such files there, one that is damaged, or protocols that differ within one.
    """
    studies = {
        archive.name.removesuffix(ENDING): comparisons(
            read_published(archive), split_by=split_by, labels=labels
        )
        for archive in archives_of(path)
    }
    titles = [comparison.title for each in studies.values() for comparison in each]
    found = [
        comparison
        if titles.count(comparison.title) == 1
        else replace(comparison, split={**comparison.split, "study": study})
        for study, each in studies.items()
        for comparison in each
    ]
    return Found(f"Published records of {path}", "", "", found)


def found_of_sweep(
    sweep: Sweep, asked: Sequence[Job], *, split_by: Sequence[str] = (), labels: Mapping[str, str]
) -> Found:
    """All runs of a sweep; those that should exist and do not are named in the comparison.

    Args:
        sweep: what names and splits them.
        asked: its jobs. Other machines may have carried them out, on devices that this one lacks.
        split_by: settings that make comparisons of their own, beside those that the sweep names.
        labels: strategy -> what it is called instead.

    Raises:
        UserError: not one of them exists, or protocols differ.
    """
    present, expected = [], []
    for job, run in read_jobs(asked):
        if run.has_spec:
            present.append(run)
        else:
            expected.append(replace(run, spec=job.facts))
    if not present and not any(run.failure for run in expected):
        where = f" in '{asked[0].runs_dir}'" if asked else ""
        raise UserError(
            f"None of the {len(asked)} runs of '{sweep.name}' exists{where}. Make them with "
            "'alharness sweep' and the same options."
        )
    split = [*sweep.split_by, *split_by]
    found = comparisons(present, split_by=split, expected=expected, labels=labels)
    return Found(sweep.heading, sweep.note, sweep.name, found, registered_in(sweep.gain))

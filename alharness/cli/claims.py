"""``alharness claims``: what the paper and this harness claim about time and work, and the evidence."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alharness.cli.explaining import claims_format, explain_option
from alharness.cli.options import data_root_option, path_option, runs_dir_option
from alharness.errors import UserError

if TYPE_CHECKING:
    from alharness.scaling.study import Study


_claims_option = path_option(
    "--claims",
    "claims_file",
    help="The file of claims (default: the one that ships with alharness).",
)


@click.group()
@explain_option(claims_format)
def claims() -> None:
    """Check the paper's timing claims, with evidence.

    \b
    alharness claims list
    alharness claims check --measure      measure what is needed, then judge
    alharness claims check --published benchmarks/results    judge what was measured elsewhere
    alharness claims check timing/cnn     judge by studies of 'alharness timing'
    alharness claims --explain            what a file for --claims may say
    """


@claims.command("list")
@_claims_option
def list_claims(claims_file: Path | None) -> None:
    """List the claims: where they stand, what supports them."""
    from alharness.scaling.claims import FILE, ClaimsFile

    for claim in ClaimsFile.read(claims_file or FILE).claims:
        low, high = claim.accept
        must = "  must hold" if claim.must else ""
        click.echo(f"{claim.id}  ({claim.where}){must}")
        click.echo(f"    {claim.text}")
        click.echo(f"    supported by {claim.kind} of {claim.name} in {low:g} .. {high:g}")


@claims.command("check")
@explain_option(claims_format)
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@path_option(
    "--published",
    metavar="PATH",
    help="Judge published studies: all below a folder of the repository (benchmarks/results).",
)
@click.option("--measure", is_flag=True, help="First measure the studies that the claims name.")
@path_option("--out", default=Path("timing"), help="Where the claims' own studies lie.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@_claims_option
@data_root_option
@runs_dir_option
@click.option("--strict", is_flag=True, help="What is not measured fails as well.")
@path_option(
    "--junit",
    dir_okay=False,
    metavar="FILE",
    help="Also write the verdicts there as JUnit's XML, for CI.",
)
@path_option(
    "--json",
    "json_file",
    dir_okay=False,
    metavar="FILE",
    help="Also write the verdicts there as JSON.",
)
@click.option("--quiet", is_flag=True, help="Show verdicts only.")
def check_claims(
    folders: tuple[Path, ...],
    published: Path | None,
    measure: bool,
    out: Path,
    device: str,
    claims_file: Path | None,
    data_root: Path | None,
    runs_dir: Path,
    strict: bool,
    junit: Path | None,
    json_file: Path | None,
    quiet: bool,
) -> int:
    """Judge every claim: holds, fails, undecided, not measured.

    Measuring takes about half an hour and 8 GB of memory on two CPU cores that have nothing else to
    do; a stopped one goes on where it stopped. Tables and figures lie beside each study.

    FOLDERS are studies of 'alharness timing'; by default those of the claims file below --out. A
    study that cannot be read is named and left out. The exit code is 1 when a claim that must hold
    fails, when a study was left out, and with --strict when anything is not measured.
    """
    from alharness.api.running import places_of
    from alharness.cli.display import make_display
    from alharness.comparison.verdicts import as_json, as_junit, failed
    from alharness.files import write_text
    from alharness.scaling import figures
    from alharness.scaling.claims import (
        FILE,
        ClaimsFile,
        check_all,
        hardware,
    )
    from alharness.scaling.measure import run_study
    from alharness.scaling.study import ScalingSpec

    content = ClaimsFile.read(claims_file or FILE)
    if published is not None:
        if measure or folders:
            raise UserError(
                "--published judges what was measured elsewhere: leave --measure and other folders out."
            )
        folders = tuple(_published_studies(published))
    # Folders that are named take the place of the claims' own; those measured now are added below.
    here = [out / named.name for named in content.studies if not measure and not folders]
    studies, damaged = _read_studies(
        [*folders, *(folder for folder in here if (folder / "study.json").exists())]
    )
    if measure:
        with closing(make_display(quiet=quiet)) as display:
            for named in content.studies:
                fields = {**named.model_dump(exclude={"name"}), "device": device}
                folder = out / named.name
                study = run_study(
                    ScalingSpec(**fields), places_of(runs_dir, data_root), folder, display.progress
                )
                figures.write(study, folder)
                studies[str(folder)] = study

    verdicts = check_all(content.claims, studies)
    for verdict in verdicts:
        claim = verdict.claim
        click.echo(f"{verdict.word:<18}{claim.id}  ({claim.where})")
        if not quiet:
            click.echo(textwrap.indent(f"{claim.text}\n{verdict.evidence}", " " * 18))
    counts = {word: sum(v.word == word for v in verdicts) for word in dict.fromkeys(
        v.word for v in verdicts
    )}  # fmt: skip
    click.echo("\n" + ", ".join(f"{count} {word}" for word, count in counts.items()))
    for machine in hardware(studies):
        click.echo(f"measured on {machine}")
    if not studies:
        click.echo("Nothing is measured yet: alharness claims check --measure")
    broken = failed(verdicts, strict=strict)
    if json_file is not None:
        about = {"measured_on": hardware(studies), "strict": strict, "passed": not broken}
        write_text(json_file, as_json(verdicts, **about))
    if junit is not None:
        write_text(junit, as_junit(verdicts, strict=strict))
    # Once more at the end and on standard error: the list above may be long, and its reader a machine.
    for word, told in (("fails", "that must hold and fail"), ("not measured", "not measured")):
        names = ", ".join(v.claim.id for v in broken if v.word == word)
        if names:
            click.echo(f"claims {told}: {names}", err=True)
    for reason in damaged:
        click.echo(f"alharness: left out: {reason}", err=True)
    return 1 if broken or damaged else 0


def _published_studies(path: Path) -> list[Path]:
    """Folders of all timing studies below one.

    Raises:
        UserError: there is none.
    """
    found = sorted(file.parent for file in path.rglob("study.json")) if path.is_dir() else []
    if not found:
        raise UserError(
            f"There are no published timing studies ('study.json') below '{path}' (looked in {Path.cwd()}). "
            "They lie in a checkout of the repository below benchmarks/results."
        )
    return found


def _read_studies(folders: Sequence[Path]) -> tuple[dict[str, Study], list[str]]:
    """Studies by folder, and why others cannot be read; one that is there stops for none that is not.

    Raises:
        UserError: none of those named can be read.
    """
    from alharness.scaling.study import Study

    studies, damaged = {}, []
    for folder in folders:
        try:
            studies[str(folder)] = Study.read(folder)
        except UserError as error:
            damaged.append(error)
    if damaged and not studies:
        raise damaged[0]
    return studies, [str(error) for error in damaged]

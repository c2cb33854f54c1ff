"""``alharness claims``: what the paper and this harness claim about time and work, and the evidence."""

from __future__ import annotations

import textwrap
from pathlib import Path

import click

from alharness.cli.options import data_root_option, places, runs_dir_option


def _claims_option(function: click.decorators.FC) -> click.decorators.FC:
    return click.option(
        "--claims",
        "claims_file",
        type=click.Path(path_type=Path),
        default=None,
        help="The file of claims (default: the one that ships with alharness).",
    )(function)


@click.group()
def claims() -> None:
    """Check the paper's timing claims, with evidence.

    \b
    alharness claims list
    alharness claims check --measure      measure what is needed, then judge
    alharness claims check timing/cnn     judge by studies of 'alharness timing'
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
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option("--measure", is_flag=True, help="First measure the studies that the claims name.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("timing"),
    show_default=True,
    help="Where the claims' own studies lie.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@_claims_option
@data_root_option
@runs_dir_option
@click.option("--quiet", is_flag=True, help="Show verdicts only.")
def check_claims(
    folders: tuple[Path, ...],
    measure: bool,
    out: Path,
    device: str,
    claims_file: Path | None,
    data_root: Path | None,
    runs_dir: Path,
    quiet: bool,
) -> int:
    """Judge every claim: holds, fails, inconclusive, not measured here.

    Measuring takes about half an hour and 8 GB of memory on two CPU cores that have nothing else to
    do; a stopped one goes on where it stopped. Tables and figures lie beside each study.

    FOLDERS are studies of 'alharness timing'; by default those of the claims file below --out. The
    exit code is 1 when a claim that must hold fails.
    """
    from alharness.cli.display import make_display
    from alharness.scaling import figures
    from alharness.scaling.claims import (
        FILE,
        ClaimsFile,
        check_all,
        failed,
        hardware,
    )
    from alharness.scaling.measure import run_study
    from alharness.scaling.study import ScalingSpec, Study

    content = ClaimsFile.read(claims_file or FILE)
    studies = {str(folder): Study.read(folder) for folder in folders}
    if measure:
        display = make_display(quiet=quiet)
        try:
            for named in content.studies:
                fields = {**named.model_dump(exclude={"name"}), "device": device}
                folder = out / named.name
                study = run_study(
                    ScalingSpec(**fields), places(runs_dir, data_root), folder, display.progress
                )
                figures.write(study, folder)
                studies[str(folder)] = study
        finally:
            display.close()
    elif not folders:
        for named in content.studies:
            if (out / named.name / "study.json").exists():
                studies[str(out / named.name)] = Study.read(out / named.name)

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
    broken = failed(verdicts)
    if broken:
        names = ", ".join(v.claim.id for v in broken)
        click.echo(f"claims that must hold and fail: {names}", err=True)
    return 1 if broken else 0

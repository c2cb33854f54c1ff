"""``alharness list`` and ``alharness show``: what exists, and what it takes."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import click

from alharness.errors import UserError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


#: Kinds of plug-ins as ``list`` takes them, in the singular, too.
KINDS = {
    "strategy": "strategies",
    "dataset": "datasets",
    "learner": "learners",
    "stopping-rule": "stopping",
}


@click.command("list")
@click.argument(
    "kind",
    type=click.Choice([*KINDS.values(), *KINDS]),
    metavar=f"[{'|'.join(KINDS.values())}]",
    default="strategies",
)
def list_names(kind: str) -> None:
    """List strategies, data sets, classifiers (learners) or stopping rules, without importing any."""
    from alharness import registry

    groups = {
        "strategies": registry.STRATEGIES,
        "datasets": registry.TASKS,
        "learners": registry.LEARNERS,
        "stopping": registry.STOPPING,
    }
    found = registry.listings(groups[KINDS.get(kind, kind)])
    width = max((len(entry.name) for entry in found), default=0)
    shown: list[str] = []
    # 0 is no terminal: then no line is folded.
    room = shutil.get_terminal_size().columns - width - 2 if sys.stdout.isatty() else 0
    # By family where modules say one; what says none at the end.
    families = sorted({entry.family for entry in found}, key=lambda family: (not family, family))
    # One heading above everything would say nothing.
    grouped = len(families) > 1
    room -= 2 * grouped if room else 0
    for place, entry in enumerate(sorted(found, key=lambda e: (families.index(e.family), e.name))):
        if grouped and entry.family not in shown:
            shown.append(entry.family)
            click.echo(f"{chr(10) if place else ''}{entry.family or 'Others'}:")
        foreign = "" if entry.distribution.startswith("alharness ") else f"  [{entry.distribution}]"
        told = f"{entry.summary}{foreign}"
        # A pipe gets a line for each name, a terminal what fits beside the names.
        lines = textwrap.wrap(told, max(room, 24)) if room else [told]
        for first, line in enumerate(lines or [""]):
            click.echo(f"{'  ' * grouped}{'' if first else entry.name:<{width}}  {line}".rstrip())


@click.command()
@click.argument("name")
def show(name: str) -> None:
    """Show a strategy's, data set's, classifier's or stopping rule's parameters, defaults and source.

    'alharness show settings' lists what may be set for every run.
    """
    from alharness import registry

    if name == "settings":
        _show_settings()
        return
    shown = {
        registry.STRATEGIES: _show_strategy,
        registry.TASKS: _show_task,
        registry.LEARNERS: _show_learner,
        registry.STOPPING: _show_rule,
    }
    shown[registry.group_of(name)](name)


def _show_learner(name: str) -> None:
    from alharness import registry
    from alharness.learners.kinds import NetworkKind, find_kind
    from alharness.learners.settings import LearnerSettings

    kind = find_kind(name)
    click.echo(f"{name}  ({registry.provider(registry.LEARNERS, name)})")
    _paragraphs(kind.description)
    click.echo(f"Used with --set learner.kind={name}")
    if not isinstance(kind, NetworkKind):
        click.echo(
            "Not a network: learner.dropout, learner.weights, learner.freeze and learner.warm_start do not "
            "apply."
        )
    _fields("Settings (--set learner.NAME=VALUE; the data set has defaults)", LearnerSettings)


def _show_rule(name: str) -> None:
    from alharness import registry
    from alharness.stopping import NEEDS, rule_class

    found = rule_class(name)
    key = registry.split(registry.STOPPING, name)[0]
    click.echo(f"{key}  ({registry.provider(registry.STOPPING, key)})")
    _paragraphs(found.__doc__)
    if found.source:
        click.echo(f"Source: {found.source}")
    click.echo(f"Used with --stop {key} in a run, and with --stopping {key} in compare.")
    for need in sorted(found.needs):
        click.echo(f"Needs: {NEEDS[need]}.")
    _fields(f"Parameters (--stop {key}:NAME=VALUE,NAME=VALUE)", found.Parameters)


def _show_strategy(name: str) -> None:
    from alharness import registry

    found = registry.strategy_class(name)
    click.echo(f"{name}  ({registry.provider(registry.STRATEGIES, name)})")
    _paragraphs(found.__doc__)
    if found.source:
        click.echo(f"Source: {found.source}")
    if found.takes and ":" not in name:
        own = "; its parameters are those of STRATEGY" if "STRATEGY" in found.takes else ""
        if own and found.Parameters.model_fields:
            own += ", and its own"
        click.echo(f"Used as {name}:{found.takes}{own}.")
        if own:
            _fields("Its own (--set strategy.NAME=VALUE)", found.Parameters)
            return
    # Behind a colon stands another strategy, whose parameters are taken, too.
    known = found.Parameters if ":" not in name else registry.find_strategy(name).parameters
    if known.model_fields:
        _fields("Parameters (--set strategy.NAME=VALUE)", known)
    else:
        click.echo("It has no parameters of its own.")
    click.echo("Settings of every run: alharness show settings")


def _show_task(name: str) -> None:
    from alharness import plugins, registry
    from alharness.learners.settings import LearnerSettings
    from alharness.tasks.base import TaskPlugin

    try:
        plugin = registry.resolve_task(name)
    except UserError:
        # A data set that needs an argument is described without one.
        found: Any = plugins.load("data set", registry.TASKS, name.split(":", 1)[0])
        click.echo(f"{name}:ARGUMENT")
        _paragraphs(found.__doc__)
        _fields("Parameters (--set task.NAME=VALUE)", found.Parameters)
        return
    assert isinstance(plugin, TaskPlugin)
    click.echo(f"{name}  ({registry.provider(registry.TASKS, name)})")
    _paragraphs(plugin.__doc__)
    if plugin.source:
        click.echo(f"Source: {plugin.source}")
    quick, paper = plugin.defaults("quick"), plugin.defaults("paper")
    click.echo(f"{'':<16}  {'quick':<12}  {'paper':<12}")
    for key in ("budget", "query_size", "initial_size"):
        _line(key, getattr(quick, key), getattr(paper, key), type(quick).model_fields[key])
    click.echo("Classifier (--set learner.NAME=VALUE):")
    for key, field in LearnerSettings.model_fields.items():
        _line(key, getattr(quick.learner, key), getattr(paper.learner, key), field)
    _fields("Parameters (--set task.NAME=VALUE)", plugin.Parameters)
    click.echo("More settings: alharness show settings")


def _show_settings() -> None:
    """Every section of a spec that does not belong to a plug-in, with its defaults."""
    from alharness.spec import SETTINGS, RunSpec

    click.echo("task (--set task.NAME=VALUE; 'alharness show NAME' lists the data set's own):")
    click.echo(
        "  positive  none          class that the average precision is of; by default the mean over"
    )
    click.echo(
        "                          classes, or the rarer of two with less than 40 % of the pool"
    )
    click.echo(
        "initial (--initial NAME, --set initial.NAME=VALUE for a strategy's own parameters):"
    )
    click.echo(
        "  name      random        random, stratified (each class by its share), or a strategy that"
    )
    click.echo("                          needs no classifier")
    for section in SETTINGS:
        _fields(f"{section} (--set {section}.NAME=VALUE)", RunSpec.model_fields[section].annotation)


def _line(key: str, quick: object, paper: object, field: FieldInfo) -> None:
    text = f"  {key:<14}  {quick!s:<12}  {paper!s:<12}  {field.description or ''}"
    click.echo(text.rstrip())


def _paragraphs(text: str | None) -> None:
    import inspect

    if text:
        click.echo()
        click.echo(inspect.cleandoc(text))
        click.echo()


def _fields(title: str, model: Any) -> None:
    """All fields of a pydantic model with their defaults and descriptions."""
    if not model.model_fields:
        return
    click.echo(f"{title}:")
    width = max(map(len, model.model_fields))
    for key, field in model.model_fields.items():
        default = "required" if field.is_required() else _shown(field.get_default())
        click.echo(f"  {key:<{width}}  {default:<12}  {field.description or ''}".rstrip())


def _shown(default: object) -> str:
    """A default as text; None means that a recipe or the data set decides."""
    return "-" if default is None else str(default)

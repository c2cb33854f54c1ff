"""``alharness list`` and ``alharness show``: what exists, and what it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from alharness.errors import UserError

if TYPE_CHECKING:
    from pydantic import BaseModel


@click.command("list")
@click.argument("kind", type=click.Choice(["strategies", "datasets"]), default="strategies")
def list_names(kind: str) -> None:
    """List strategies or data sets, without importing any of them."""
    from alharness import registry

    group = registry.STRATEGIES if kind == "strategies" else registry.TASKS
    found = registry.listings(group)
    width = max((len(entry.name) for entry in found), default=0)
    for entry in found:
        foreign = "" if entry.distribution.startswith("alharness ") else f"  [{entry.distribution}]"
        click.echo(f"{entry.name:<{width}}  {entry.summary}{foreign}")
    if kind == "strategies":
        click.echo(
            f"{'subset:M:NAME':<{width}}  Any scoring strategy over M random candidates per cycle."
        )


@click.command()
@click.argument("name")
def show(name: str) -> None:
    """Show a strategy's or data set's parameters, defaults and source in the paper."""
    from alharness import registry

    strategy_name = registry.split_subset(name)[1]
    if strategy_name in registry.names(registry.STRATEGIES) or (":" in name and "/" in name):
        _show_strategy(strategy_name)
        return
    if name.split(":", 1)[0] in registry.names(registry.TASKS):
        _show_task(name)
        return
    if ":" in name:
        _show_strategy(strategy_name)
        return
    from alharness.errors import unknown_name

    everything = registry.names(registry.STRATEGIES) + registry.names(registry.TASKS)
    raise unknown_name("strategy or data set", name, everything)


def _show_strategy(name: str) -> None:
    from alharness import registry

    found = registry.strategy_class(name)
    click.echo(f"{name}  ({registry.provider(registry.STRATEGIES, name)})")
    _paragraphs(found.__doc__)
    if found.source:
        click.echo(f"Source: {found.source}")
    _fields("Parameters (--set strategy.NAME=VALUE)", found.Parameters)


def _show_task(name: str) -> None:
    from alharness import registry
    from alharness.learner import LearnerSettings
    from alharness.tasks.base import TaskPlugin

    try:
        plugin = registry.resolve_task(name)
    except UserError:
        # A data set that needs an argument is described without one.
        found: Any = registry._load("data set", registry.TASKS, name.split(":", 1)[0])
        click.echo(f"{name}:ARGUMENT")
        _paragraphs(found.__doc__)
        _fields("Parameters (--set task.NAME=VALUE)", found.Parameters)
        return
    assert isinstance(plugin, TaskPlugin)
    click.echo(f"{name}  ({registry.provider(registry.TASKS, name)})")
    _paragraphs(plugin.__doc__)
    if plugin.source:
        click.echo(f"Source: {plugin.source}")
    for profile in ("quick", "paper"):
        defaults = plugin.defaults(profile)
        learner = ", ".join(
            f"{key}={value}"
            for key, value in defaults.learner.model_dump().items()
            if key == "kind" or value != LearnerSettings.model_fields[key].default
        )
        click.echo(
            f"Profile {profile}: budget {defaults.budget}, query size {defaults.query_size}, "
            f"initial size {defaults.initial_size}; learner {learner}"
        )
    _fields("Parameters (--set task.NAME=VALUE)", plugin.Parameters)
    _fields("Classifier (--set learner.NAME=VALUE)", LearnerSettings)


def _paragraphs(text: str | None) -> None:
    import inspect

    if text:
        click.echo()
        click.echo(inspect.cleandoc(text))
        click.echo()


def _fields(title: str, model: type[BaseModel]) -> None:
    if not model.model_fields:
        return
    click.echo(f"{title}:")
    width = max(map(len, model.model_fields))
    for key, field in model.model_fields.items():
        default = "required" if field.is_required() else f"{field.get_default()!r}"
        click.echo(f"  {key:<{width}}  {default:<12}  {field.description or ''}".rstrip())

"""Options that several commands share, and how what a user typed becomes a spec."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from alharness.errors import UserError

Function = TypeVar("Function", bound=Callable[..., Any])


def typed(*words: str) -> str:
    """A command as a user would type it, quoted where a shell needs it."""
    return shlex.join(["alharness", *words])


def runs_dir_typed(runs_dir: Path) -> list[str]:
    """The words that name the runs again; none for the default."""
    return [] if runs_dir == Path("runs") else ["--runs-dir", str(runs_dir)]


def stacked(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Several options as one decorator, in the order in which ``--help`` shows them."""

    def apply(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


def default_of(function: str, parameter: str) -> Any:
    """The default of an option: that of the Python function of the command's name."""
    from alharness import api

    return inspect.signature(getattr(api, function)).parameters[parameter].default


def path_option(
    *names: str, dir_okay: bool = True, file_okay: bool = True, **more: Any
) -> Callable[[Function], Function]:
    """An option that takes a path; its default, where it has one, shows in ``--help``."""
    kind = click.Path(path_type=Path, dir_okay=dir_okay, file_okay=file_okay)
    return click.option(*names, type=kind, show_default="default" in more, **more)


#: The root of all run folders.
runs_dir_option = path_option(
    "--runs-dir",
    default=Path("runs"),
    envvar="ALHARNESS_RUNS",
    help="Where runs lie (environment: ALHARNESS_RUNS).",
)

#: Where original data sets are looked for.
data_root_option = path_option(
    "--data-root", help="Where data sets are looked for (environment: ALHARNESS_DATA)."
)


def places_options(function: Function) -> Function:
    """``--data-root``, ``--download`` and ``--runs-dir``, as ``places_of`` takes them."""
    return stacked(
        data_root_option,
        click.option(
            "--download", is_flag=True, help="Fetch the data set first when it is missing."
        ),
        runs_dir_option,
    )(function)


def settings_option(told: str, metavar: str = "KEY=VALUE") -> Callable[[Function], Function]:
    """``--set``, repeatable; ``told`` says which settings."""
    return click.option("--set", "settings", multiple=True, metavar=metavar, help=told)


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """What ``--set`` says, as nested values: later ones win."""
    from alharness.files import merge
    from alharness.spec import parse_set

    return merge(*map(parse_set, texts))


def out_option(told: str) -> Callable[[Function], Function]:
    """``--out FILE``: one file that a command also writes, ``told`` says of what."""
    return path_option("--out", dir_okay=False, metavar="FILE", help=told)


def naming_options(function: Function) -> Function:
    """Strategy and data set by place or by option, as ``named`` takes them."""
    return stacked(
        click.argument("names", nargs=-1, metavar="[STRATEGY [DATASET]]"),
        click.option(
            "--strategy", default=None, help="Name, package.module:Class or ./file.py:Class."
        ),
        click.option(
            "--dataset",
            default=None,
            help="Name ('alharness list datasets'), or data of your own: folder:PATH, table:PATH.",
        ),
    )(function)


def named(
    names: Sequence[str], strategy: str | None, dataset: str | None
) -> tuple[str | None, str | None]:
    """Strategy and data set, as ``margin digits-ten`` or as options name them.

    Raises:
        UserError: more than two names, one thing named twice, a data set alone, or a name that is none: said
            before what runs need is imported.
    """
    from alharness import registry

    command = click.get_current_context().command_path
    if len(names) > 2:
        raise UserError(
            f"'{command}' takes a strategy and a data set; found {len(names)} names: "
            f"{' '.join(names)}. Settings are --set NAME=VALUE."
        )
    found = {"--strategy": strategy, "--dataset": dataset}
    # Not strict: one name alone is the strategy.
    for option, name in zip(found, names, strict=False):
        if found[option] is not None:
            raise UserError(f"{option} {found[option]} and {name} name one thing. Give it once.")
        found[option] = name
    if len(names) == 1 and found["--dataset"] is None and _is_data_set(names[0]):
        raise UserError(
            f"'{names[0]}' is a data set, and no strategy is given. The strategy comes first: "
            f"{command} margin {names[0]}"
        )
    registry.require_names(found["--dataset"], found["--strategy"])
    return found["--strategy"], found["--dataset"]


def _is_data_set(name: str) -> bool:
    from alharness import plugins

    return plugins.find(plugins.TASKS, plugins.split(plugins.TASKS, name)[0]) is not None


def section_of(given: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Settings of one section out of ``parse_set``'s: ``task.NAME=VALUE`` or, for short, ``NAME=VALUE``."""
    # The whole name wins over the short one: it says which section is meant.
    short = {name: value for name, value in given.items() if name != section}
    return {**short, **given.get(section, {})}


def tracking_options(function: Function) -> Function:
    """``--tracking-uri`` and ``--experiment``."""
    return stacked(
        click.option(
            "--tracking-uri",
            default=None,
            envvar="MLFLOW_TRACKING_URI",
            help="MLflow store; default: SQLite beside the runs.",
        ),
        click.option(
            "--experiment",
            default=default_of("run", "experiment"),
            show_default=True,
            help="MLflow experiment.",
        ),
    )(function)


def tracked(tracking_uri: str | None, no_tracking: bool) -> bool | str:
    """What the options say, as the Python functions take it."""
    return False if no_tracking else tracking_uri or True


def oracle_option(function: Function) -> Function:
    """``--oracle``: who answers."""
    return click.option("--oracle", default=None, help="hard, abstain, noisy or human.")(function)


def spec_options(function: Function) -> Function:
    """Everything else that says what a run is."""
    return stacked(
        click.option("--seed", type=int, default=None, help="Seed of the run (default 0)."),
        click.option(
            "--data-seed", type=int, default=None, help="Seed of the initial set (default: --seed)."
        ),
        click.option(
            "--budget", type=int, default=None, help="Annotations in all, initial set included."
        ),
        click.option("--query-size", type=int, default=None, help="Annotations per cycle."),
        click.option(
            "--initial-size",
            type=int,
            default=None,
            help="Annotations before cycle 0; 0 with --initial STRATEGY: as many as in a cycle.",
        ),
        click.option(
            "--initial",
            default=None,
            metavar="random|stratified|STRATEGY",
            help="How the initial set is found (default random); a strategy that needs no classifier.",
        ),
        click.option("--device", default=None, help="auto, cpu, cuda or cuda:N (default auto)."),
        click.option(
            "--profile",
            default=None,
            help="quick: minutes on a CPU (default); paper: Table 1 in full.",
        ),
        click.option(
            "--stop",
            multiple=True,
            metavar="RULE",
            help="End it before its budget by a stopping rule, for instance kappa or budget:200 (repeatable: "
            "the first that stops); see 'alharness list stopping'.",
        ),
        path_option("--config", help="TOML file with any of these settings."),
        settings_option("Any setting, for instance learner.min_steps=500; see 'alharness show'."),
    )(function)


def overrides(
    *,
    config: Path | None,
    settings: Sequence[str],
    oracle: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """What the user said, as nested values: file first, then options, then ``--set``."""
    from alharness.files import merge, read_toml

    given = {key: value for key, value in options.items() if value is not None and value != ()}
    layers: list[dict[str, Any]] = [{}]
    if config is not None:
        layers.append(read_toml(config))
    for plugin in ("task", "strategy", "initial"):
        # Another plug-in than the file's starts from its own defaults.
        if plugin in given and config is not None:
            layers[-1].pop(plugin, None)
        if plugin in given:
            given[plugin] = {"name": given[plugin]}
    layers.append(given)
    if oracle is not None:
        layers.append({"oracle": {"mode": oracle}})
    return merge(*layers, parse_settings(settings))

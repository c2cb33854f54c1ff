"""``alharness.tune``: a classifier's settings, chosen once on the starting labels (R5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness import __version__, plugins
from alharness.api.cells import cell_line
from alharness.api.naming import choice_of, settings_of
from alharness.api.running import AnyPath, places_of
from alharness.errors import UserError
from alharness.files import merge, write_text
from alharness.progress import Progress, silent

if TYPE_CHECKING:
    from alharness.engine.places import Places
    from alharness.spec import Bound
    from alharness.tasks.base import TaskPlugin

#: Settings of a classifier to the values that are tried.
Grid = Mapping[str, Sequence[Any]]

#: Which of two equally good settings is the simpler one: the lower value, from the first on.
_LOWER = ("members", "width", "min_steps", "epochs", "c")
#: And after these: the higher value.
_HIGHER = ("weight_decay", "dropout")


@dataclass(frozen=True)
class Tried:
    """One combination of settings.

    Attributes:
        settings: of the grid, by their names in ``learner``.
        log_loss: mean over the labels (nats), each held out once; six decimals, which is what decides.
    """

    settings: dict[str, Any]
    log_loss: float


@dataclass(frozen=True)
class TuneResult:
    """What was chosen, and what from.

    Attributes:
        learner: settings for ``alharness.run(..., learner=result.learner)``: those that were chosen, and
            others in which the classifier differs from the data set's own.
        best: what was chosen.
        tried: everything, in the order of the grid.
        text: a TOML file for ``alharness run --config``, with what was tried as a comment.
    """

    learner: dict[str, Any]
    best: Tried
    tried: tuple[Tried, ...]
    text: str


def tune(
    dataset: str | type[TaskPlugin] | Mapping[str, Any],
    *,
    grid: Grid | None = None,
    folds: int = 5,
    out: AnyPath | None = None,
    runs_dir: AnyPath | None = None,
    data_root: AnyPath | None = None,
    download: bool = False,
    **settings: Any,
) -> TuneResult:
    """Choose a classifier's settings on the starting labels alone, once, for all strategies.

    The labels are those that every run with the same ``data_seed``, ``initial`` and ``initial_size`` begins
    with. Each combination of the grid is trained ``folds`` times, each time without one part of
    them (stratified), and the mean log loss of the parts left out decides; the simpler setting wins a tie.
    No other label of the pool is asked for, and the test set is not looked at.

    Args:
        dataset: as for ``alharness.run``.
        grid: values to try by setting, for instance ``{"learner.lr": [0.001, 0.01]}``; by default ``c`` of
            the linear model, ``lr``, ``width`` and length of training of a network.
        folds: parts that the labels are divided into.
        out: a file to write ``text`` to.
        runs_dir, data_root, download: as for ``alharness.run``.
        settings: as for ``alharness.run``; what runs shall share.

    Raises:
        UserError: unknown names or settings, too few labels of a class, a pool without labels, a classifier
            that has no default grid.
    """
    given = merge(settings_of(settings), {"task": choice_of(plugins.TASKS, dataset)})
    places = places_of(runs_dir, data_root, download=download)
    result = tuned(given, places, grid=grid, folds=folds, progress=cell_line())
    if out is not None:
        write_text(Path(out).expanduser(), result.text)
    return result


def tuned(
    given: Mapping[str, Any],
    places: Places,
    *,
    grid: Grid | None,
    folds: int,
    progress: Progress = silent,
) -> TuneResult:
    """As ``tune``, of nested settings as ``alharness.spec.bind`` takes them.

    Raises:
        UserError: as ``tune``.
    """
    from alharness.engine.tuning import NO_STRATEGY, cross_validate
    from alharness.engine.watching import watched
    from alharness.spec import bind

    if folds < 2:
        raise UserError(f"Cross-validation needs 2 folds or more; found {folds}.")
    # A file may name a strategy with parameters, and rules that end its runs: neither has a part in this.
    own = {key: value for key, value in given.items() if key not in ("strategy", "stop")}
    own["strategy"] = {"name": NO_STRATEGY}
    values = default_grid(bind(own, watched)) if grid is None else _checked(grid)
    combinations = [dict(zip(values, each, strict=True)) for each in product(*values.values())]
    candidates = [bind(merge(own, {"learner": each}), watched) for each in combinations]
    losses, n_labels = cross_validate(candidates, places, folds, progress)
    # Rounded as it is written: what decides can be read in the file.
    tried = tuple(
        Tried(each, round(loss, 6)) for each, loss in zip(combinations, losses, strict=True)
    )
    place = min(range(len(tried)), key=lambda i: (tried[i].log_loss, _complexity(candidates[i]), i))
    chosen, best = candidates[place], tried[place]
    # What the data set gives such a classifier by itself: the file says only what differs.
    base = bind(
        {
            "task": chosen.spec.task.model_dump(),
            "profile": chosen.spec.profile,
            "strategy": {"name": NO_STRATEGY},
            "learner": {"kind": chosen.spec.learner.kind},
        },
        watched,
    ).spec.learner
    kept = {"kind", *values}
    learner = {
        name: value
        for name, value in chosen.spec.learner.model_dump(mode="json").items()
        if name in kept or value != getattr(base, name)
    }
    text = _as_toml(chosen, learner, tried, place, folds, n_labels)
    return TuneResult(learner, best, tried, text)


def default_grid(bound: Bound) -> dict[str, list[Any]]:
    """The settings of a classifier that are tried where nobody says which, around those that it has.

    Raises:
        UserError: the harness knows no settings of it.
    """
    import inspect

    from alharness.learners.kinds import NetworkKind

    settings = bound.spec.learner
    if settings.freeze or settings.kind == "linear":
        return {"c": [0.001, 0.01, 0.1, 1.0, 10.0, 100.0]}
    if not isinstance(bound.kind, NetworkKind):
        raise UserError(
            f"The classifier '{settings.kind}' has no grid of its own: its settings are not the harness's. "
            "Say what to try, for instance --grid learner.class_weight=none,balanced."
        )
    # With few labels the floor on steps is reached by every number of epochs, and decides alone.
    of_epochs = bound.spec.initial_size * settings.epochs / settings.batch_size
    length = "epochs" if of_epochs > settings.min_steps else "min_steps"
    steps = getattr(settings, length)
    grid: dict[str, list[Any]] = {
        "lr": [float(f"{settings.lr * factor:.3g}") for factor in (0.3, 1, 3)],
        length: sorted({max(1, steps // 3), steps}),
    }
    if "width" in inspect.signature(bound.kind.make).parameters:
        grid["width"] = sorted({max(1, settings.width // 2), settings.width})
    return grid


def _checked(grid: Grid) -> dict[str, list[Any]]:
    """A user's grid by the names that settings have in ``learner``.

    Raises:
        UserError: another section's setting, or nothing to try.
    """
    found: dict[str, list[Any]] = {}
    for key, values in grid.items():
        section, _, name = key.rpartition(".")
        if section != "learner":
            raise UserError(
                f"A grid is of the classifier's settings, for instance learner.lr=0.001,0.01; found '{key}'."
            )
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise UserError(f"The grid's '{key}' takes a list of values to try; found {values!r}.")
        nested: dict[str, list[Any]] = settings_of({"tried": list(values)})
        found[name] = nested["tried"]
    if not found:
        raise UserError("The grid is empty. Name a setting, for instance learner.c=0.1,1.")
    return found


def _complexity(bound: Bound) -> tuple[float, ...]:
    """Orders settings that are equally good, the simplest first."""
    settings = bound.spec.learner
    lower = [float(getattr(settings, name)) for name in _LOWER]
    return (*lower, *(-float(getattr(settings, name)) for name in _HIGHER))


def _as_toml(
    bound: Bound,
    learner: Mapping[str, Any],
    tried: Sequence[Tried],
    place: int,
    folds: int,
    n_labels: int,
) -> str:
    """The file: one ``[learner]`` table under a comment on how it was found."""
    import tomli_w

    spec = bound.spec
    lines = [
        f"Chosen by 'alharness tune' {__version__} on the starting labels alone (R5).",
        f"data set: {spec.task.name}; data seed: {spec.data_seed}; labels: {n_labels} "
        f"({spec.initial.name}); folds: {folds}",
        "mean log loss, each label held out once; > is chosen, ties go to the simpler:",
    ]
    for number, each in enumerate(tried):
        told = ", ".join(f"{name} = {value}" for name, value in each.settings.items())
        lines.append(f"{'>' if number == place else ' '} {each.log_loss:.6f}  {told}")
    # A name with a line break would end the comment.
    comment = "".join(f"# {' '.join(line.splitlines())}\n" for line in lines)
    return f"{comment}\n{tomli_w.dumps({'learner': dict(learner)})}"

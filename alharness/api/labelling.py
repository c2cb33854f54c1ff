"""``alharness.ask``: labels asked of a person, or of anything else that is not a data set's own targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness import plugins
from alharness.api.naming import choice_of
from alharness.api.running import LOG, AnyPath, bound_of, places_of
from alharness.errors import UserError
from alharness.files import merge, write_text

if TYPE_CHECKING:
    from alharness.engine.labelling import LabelSession
    from alharness.oracle.exchange import Form, Taken
    from alharness.records import RunFolder
    from alharness.strategy import Strategy
    from alharness.tasks.base import TaskPlugin


#: What makes a run one that a person answers.
HUMAN = {"oracle": {"mode": "human"}}


def ask(
    strategy: str | type[Strategy] | Mapping[str, Any],
    dataset: str | type[TaskPlugin] | Mapping[str, Any],
    *,
    runs_dir: AnyPath | None = None,
    data_root: AnyPath | None = None,
    download: bool = False,
    classes: Sequence[str] = (),
    fresh: bool = False,
    who: str | None = None,
    sheets: bool = False,
    warn: Callable[[str], None] | None = None,
    **settings: Any,
) -> LabelSession:
    """A labelling session: the strategy chooses, you tell the classes, in turns, for as long as you like.

    It is the run of ``alharness label`` with the same settings: what was begun in one is continued in the
    other. Nothing is loaded before ``next`` is called for the first time.

    .. code-block:: python

        with alharness.ask("margin", "digits-two", budget=40) as session:
            while (query := session.next()) is not None:
                session.tell([my_own_tool(item) for item in query.items])

    Args:
        strategy, dataset: as for ``alharness.run``.
        runs_dir, data_root, download: as for ``alharness.run``.
        classes: what may be told, in the order of their numbers, where the data do not say: ``task.classes``.
        fresh: throw away the records of this run and start over; answers to a query that comes again stand.
        who: gives the answers; the user of this machine by default.
        sheets: put a table to fill in into the run's folder for each query.
        warn: told, in a sentence, what a user of the result should know; by default the logger ``alharness``.
        settings: as for ``alharness.run``.

    Raises:
        UserError: unknown names or settings.
    """
    from alharness.engine.labelling import LabelSession
    from alharness.tracking import RunView

    tell = warn or (lambda text: LOG.warning("%s", text))
    bound = bound_of(strategy, labelled_data(dataset, classes), merge(HUMAN, settings))
    return LabelSession(
        bound,
        places_of(runs_dir, data_root, download=download),
        who=who,
        fresh=fresh,
        sheets=sheets,
        # What a person labels is no benchmark: the view in MLflow leaves it out, unless it is asked for.
        observers=[RunView(None, "alharness", tell)],
        warn=tell,
    )


def labelled_data(dataset: Any, classes: Sequence[str] = ()) -> dict[str, Any]:
    """A data set as somebody who labels wants it: items without a class are in the pool.

    Args:
        dataset: as for ``alharness.run``.
        classes: what may be told, where the data do not say.
    """
    from alharness import registry

    chosen = choice_of(plugins.TASKS, dataset)
    known = registry.task_class(chosen["name"]).Parameters.model_fields
    if "blank" in known:  # data of one's own; those of the paper have all their labels
        chosen.setdefault("blank", "pool")
    if classes:
        chosen["classes"] = ",".join(classes)
    return chosen


def export_labels(
    run: AnyPath,
    out: AnyPath | None = None,
    form: Form | None = None,
    *,
    runs_dir: AnyPath | None = None,
    also_open: bool = False,
    prefix: str = "",
) -> str:
    """What a person answered in a run: file or row, class, who and when.

    Args:
        run: the run's folder, or its key (the beginning of it) below ``runs_dir``.
        out: a file to write it to.
        form: ``csv`` or ``label-studio``; by default as ``out`` ends (``.json``), else CSV.
        runs_dir: as for ``alharness.run``.
        also_open: also the items of the open query, without a class, to be answered elsewhere.
        prefix: of Label Studio's addresses of images, before the file's name.

    Returns:
        the text of the file.

    Raises:
        UserError: no such run, or nobody was asked in it.
    """
    from alharness.oracle.exchange import as_text, form_of, labelled

    folder = labelled_run(run, runs_dir)
    rows = labelled(
        folder.path / "annotations", folder.facts().task.class_names, also_open=also_open
    )
    path = None if out is None else Path(out).expanduser()
    text = as_text(rows, form or (form_of(path) if path is not None else "csv"), prefix=prefix)
    if path is not None:
        write_text(path, text)
    return text


def import_labels(
    run: AnyPath, file: AnyPath, *, runs_dir: AnyPath | None = None, who: str | None = None
) -> Taken:
    """Take answers of a file, in a form that ``export_labels`` gives, all or none.

    Args:
        run, runs_dir: as for ``export_labels``.
        file: CSV, or Label Studio's JSON or JSON-MIN.
        who: gave the answers that do not say who.

    Raises:
        UserError: an item that was not asked about, no class, another class than that of a cycle that is
            over, or a session that is open.
    """
    from alharness.engine.folders import held
    from alharness.oracle.exchange import take_file

    folder = labelled_run(run, runs_dir)
    with held(folder):
        return take_file(
            Path(file).expanduser(),
            folder.path / "annotations",
            folder.facts().task.class_names,
            n_complete=len(folder.records()),
            who=who,
        )


def labelled_run(run: AnyPath, runs_dir: AnyPath | None) -> RunFolder:
    """A run by its folder or its key.

    Raises:
        UserError: there is none, or several keys begin so.
    """
    from alharness.records import RunFolder, run_folders

    path = Path(run).expanduser()
    if (path / "spec.toml").is_file():
        return RunFolder(path)
    root = path if path.is_dir() else places_of(runs_dir, None).runs_dir
    among = run_folders(root) if root.is_dir() else []
    found = [
        folder
        for folder in among
        if (root == path or folder.path.name.startswith(str(run)))
        and (folder.path / "annotations").is_dir()
    ]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(str(folder.path) for folder in found[:5])
        raise UserError(f"{len(found)} runs were labelled there: {listed}. Name one of them.")
    raise UserError(
        f"There is no run '{run}' that a person answered, neither as a folder nor as a key below '{root}'. "
        "'alharness label' tells where it keeps one."
    )

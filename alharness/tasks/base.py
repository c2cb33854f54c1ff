"""What a task is: pool images, hidden targets, a test set, and the defaults of Table 1.

A task plug-in is one class: its docstring's first line is its summary, ``defaults`` gives Table 1's
numbers for a profile, ``load`` gives the data. Loading returns the hidden targets beside the images;
the runner hands them to the oracle and to nobody else.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from pydantic import (
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from alharness.errors import UserError, is_own
from alharness.frozen import Frozen
from alharness.lazily import numpy as np
from alharness.lazily import torch
from alharness.pool import ArrayPool, Forecast, Pool, VirtualItems, digest, forecast_of, open_items
from alharness.progress import Progress, silent
from alharness.records import doubts
from alharness.tasks.originals.dataset import Dataset

# Whoever writes a task imports these from here.
from alharness.tasks.originals.locations import DataLocations as DataLocations
from alharness.tasks.settings import PoolSettings as PoolSettings
from alharness.tasks.settings import Profile as Profile
from alharness.tasks.settings import TaskDefaults as TaskDefaults
from alharness.tasks.settings import as_typed
from alharness.tasks.soundness import (
    BLANK,
    absent_classes,
    n_shared,
    refuse_blanks,
    shared_note,
    sound_items,
    sound_names,
    sound_targets,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A classifier that finds splits for what is not there, as an example in messages.
TAKES_GAPS = "sklearn.ensemble:HistGradientBoostingClassifier"


@dataclass(frozen=True)
class TaskData:
    """The data of one task, as loaded; ``load_data`` refuses what does not go together.

    Attributes:
        pool_images: uint8 ``[N, C, H, W]``, in memory or memory-mapped; or items that are computed;
            or float32 rows ``[N, D]``, for classifiers and strategies that need no images.
        pool_targets: int64 ``[N]``, numbers of classes: hidden from strategies. Other whole numbers are
            made int64. -1 (``BLANK``) where an item has no class: only a person can answer for it.
        test_images: uint8 ``[T, C, H, W]``, or float32 rows ``[T, D]``. T may be 0 where a person answers:
            nothing is measured then.
        test_targets: int64 ``[T]``.
        class_names: one per class, in the order of the targets.
        fingerprint: digest of images and targets; guards comparisons. Of a task that is not the harness's
            own it is computed when the task is loaded, whatever ``load`` says.
        pool_fingerprint: digest of the pool's images alone, which names artefacts: tasks that
            share their images (CelebA's four) share a generator. Computed like the other one.
        pixel_max: the uint8 value that means 1.0.
        synthetic: true for drawn or generated data: said wherever results are shown.
        notes: facts for the record (source, crop, split).
        n_shared: items of the test set that are in the pool too, where ``load`` knows it; counted otherwise.
        claimed: the fingerprint that somebody's own ``load`` gave, which runs before 0.3 have recorded.
        pool_names: what people call the pool's items, where they are to be labelled (``task.blank=pool``):
            files of a folder, numbers of rows of a table (from 1); ``TaskPlugin.original`` takes these.
        has_gaps: rows have NaN where nothing is there, for classifiers that take it (``task.missing=keep``).
    """

    pool_images: NDArray[Any] | VirtualItems
    pool_targets: NDArray[np.int64]
    test_images: NDArray[Any]
    test_targets: NDArray[np.int64]
    class_names: tuple[str, ...]
    fingerprint: str
    pool_fingerprint: str
    pixel_max: int = 255
    synthetic: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    n_shared: int | None = None
    claimed: str | None = None
    pool_names: NDArray[np.str_] | None = None
    has_gaps: bool = False

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes results on these data doubtful, for people: out of the notes, one line each."""
        return doubts(self.notes)

    def forecast(self, device: torch.device, settings: PoolSettings | None = None) -> Forecast:
        """Where the pool will live and what memory it will need; said before a run begins.

        Of what is free now: once the pool is open it tells nothing true any more, so it is handed on.

        Raises:
            UserError: the residency asked for cannot work.
        """
        settings = settings or PoolSettings()
        return forecast_of(self.pool_images, device, settings.residency, settings.memory_mb)

    def open_pool(
        self,
        device: torch.device,
        settings: PoolSettings | None = None,
        *,
        chosen: Forecast | None = None,
    ) -> Pool:
        """The pool images as a ``Pool``.

        Args:
            chosen: what ``forecast`` said; by default it is asked now.
        """
        return open_items(
            self.pool_images,
            device,
            chosen or self.forecast(device, settings),
            pixel_max=self.pixel_max,
            fingerprint=self.pool_fingerprint,
        )

    def open_test(self, device: torch.device) -> Pool:
        """The test images as a ``Pool``: on the device when they fit; a pool of none where there are none."""
        if len(self.test_images) == 0:
            return ArrayPool(
                np.array(self.test_images), device, pixel_max=self.pixel_max, may_be_empty=True
            )
        chosen = forecast_of(self.test_images, device)
        return open_items(self.test_images, device, chosen, pixel_max=self.pixel_max)


class TaskParameters(Frozen):
    """Parameters of a task (``--set task.NAME=VALUE``); most have none.

    A field that is marked ``json_schema_extra={"added": VERSION}`` is left out of what is written and
    hashed while it has its default: a new parameter renames no run and no cache.
    """

    @field_validator("*", mode="before")
    @classmethod
    def _text_as_typed(cls, value: Any, info: ValidationInfo) -> Any:
        """A text that looks like a number, a date or yes and no: column 2, class 1, the gap -999.

        A command line and a TOML file give them as what they look like; here they are names.
        """
        return as_typed(value) if info.field_name in _text_fields(cls) else value

    @model_serializer(mode="wrap")
    def _without_new_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        for name, info in type(self).model_fields.items():
            extra = info.json_schema_extra
            if isinstance(extra, dict) and "added" in extra and getattr(self, name) == info.default:
                values.pop(name, None)
        return values


@cache
def _text_fields(parameters: type[TaskParameters]) -> frozenset[str]:
    """Fields that hold a text, or nothing."""
    return frozenset(
        name
        for name, field in parameters.model_fields.items()
        if set(get_args(field.annotation) or [field.annotation]) <= {str, NoneType}
    )


class TaskPlugin(ABC):
    """A data set turned into an active-learning problem.

    Class attributes:
        Parameters: the model of its parameters.
        source: where the data come from and what fetching them costs, for ``show`` and errors.
        dataset: what ``alharness data`` prepares for it; None where nothing needs preparing.
        problem: shape of its items and number of classes, where they are known without the data:
            what cannot serve them is refused before anything is loaded.
    """

    Parameters: ClassVar[type[TaskParameters]] = TaskParameters
    source: ClassVar[str] = ""
    dataset: ClassVar[Dataset | None] = None
    problem: ClassVar[tuple[tuple[int, ...], int] | None] = None

    def __init__(self, name: str, argument: str | None = None, **parameters: Any) -> None:
        """``argument`` is what follows the colon in ``folder:PATH``."""
        if argument is not None and not self.takes_argument:
            raise UserError(f"Data set '{name}' takes nothing after a colon; found '{argument}'.")
        self.name = name
        self.argument = argument
        self.parameters = self.Parameters(**parameters)

    takes_argument: ClassVar[bool] = False
    #: The task that it is made from, where ``made_from`` names one: there once it was opened by name.
    source_task: TaskPlugin

    def made_from(self) -> str | None:
        """Name of another data set that it is made from; None for most."""
        return None

    def identity(self) -> dict[str, str]:
        """What its name leaves open and tells its data from others; part of a run's key."""
        return {}

    @abstractmethod
    def defaults(self, profile: Profile) -> TaskDefaults:
        """Budget, sizes and classifier for a profile."""

    @abstractmethod
    def load(self, locations: DataLocations, progress: Progress = silent) -> TaskData:
        """The data.

        Raises:
            UserError: data missing (what, where it was looked for, how to get it, its size) or damaged.
        """

    def original(self, name: str) -> Path | bytes | Mapping[str, str] | None:
        """An item as a person knows it, to be labelled by it; None: it is shown as the pool has it.

        Args:
            name: one of ``TaskData.pool_names``.

        Returns:
            A picture's file or its bytes, or a row's cells by their columns.
        """
        return None

    def preview(self, locations: DataLocations) -> list[str]:
        """What the data are taken for, line by line, where a picture of items says nothing; none here.

        Raises:
            UserError: they cannot be read.
        """
        return []

    def fingerprint(self, locations: DataLocations, progress: Progress = silent) -> str:
        """The fingerprint of the data that ``load`` would give now, as cheaply as can be.

        A task that can tell without its images overrides this; here they are loaded.

        Raises:
            UserError: as ``load``.
        """
        return load_data(self, locations, progress, blanks=True, gaps=True).fingerprint


def load_data(
    plugin: TaskPlugin,
    locations: DataLocations,
    progress: Progress = silent,
    *,
    blanks: bool = False,
    gaps: bool = False,
) -> TaskData:
    """What a plug-in's ``load`` gives, held against what ``TaskData`` says.

    Runs, studies and commands load by this; nobody calls a plug-in's ``load`` itself.

    Args:
        plugin: the task.
        locations: where data lie.
        progress: told of long work.
        blanks: whether pool items may have no class and the test set no item: where a person answers, or
            nobody does. Anybody else would have to guess.
        gaps: whether rows may have NaN where nothing is there: where the classifier takes them.

    Raises:
        UserError: as ``load``; arrays of another kind, items and labels that are not as many, labels beyond
            the classes, items of pool and test set that differ in shape or type, or rows that are not finite.
        PluginError: somebody's own plug-in raised something else, or gave no ``TaskData``: one line that
            names it. What the harness's own tasks raise keeps its traceback.
    """
    name = plugin.name + (f":{plugin.argument}" if plugin.argument is not None else "")
    if is_own(plugin):
        return _sound(plugin.load(locations, progress), name, blanks, gaps)

    # Only for foreign code, and only now: a task is described without torch, whose state is watched.
    from alharness.border.author import Author
    from alharness.border.call import watched

    def load() -> TaskData:
        data: Any = plugin.load(locations, progress)
        if not isinstance(data, TaskData):
            raise TypeError(f"{type(data).__name__} instead")
        return data

    author = Author(plugin, name, "data set")
    data = _sound(watched(author, "load", "a TaskData from load", load), name, blanks, gaps)
    return _fingerprinted(data)


def _fingerprinted(data: TaskData) -> TaskData:
    """Data of somebody's own task with digests of what they are: a typed one may stand over others."""
    pool, test = data.pool_images, data.test_images
    if isinstance(pool, np.ndarray):
        of_pool = digest(pool)
        whole = digest(pool, data.pool_targets, test, data.test_targets)
    else:  # items that are computed as they are read: named by their maker, the rest by its values
        of_pool = data.pool_fingerprint
        rest = digest(data.pool_targets, test, data.test_targets)
        whole = hashlib.sha256(f"{of_pool} {pool.shape} {rest}".encode()).hexdigest()[:16]
    return replace(data, fingerprint=whole, pool_fingerprint=of_pool, claimed=data.fingerprint)


def _sound(data: TaskData, name: str, blanks: bool, gaps: bool) -> TaskData:
    """The same data, with labels as int64 and a word on what makes results doubtful.

    That is: classes that the pool has no item of, and items of the test set that are in the pool.

    Raises:
        UserError: they do not go together.
    """
    names = sound_names(data.class_names, name)
    # Who has no labels has no test set either, and wants to hear of the former.
    empty = blanks or bool(np.any(np.asarray(data.pool_targets) == BLANK))
    if data.has_gaps and not gaps:
        raise UserError(
            f"Rows of data set '{name}' have gaps (task.missing=keep), and not every classifier takes them. "
            f"Use one that does (learner.kind={TAKES_GAPS}), or set task.missing=median."
        )
    sound_items(data.pool_images, data.test_images, name, blanks=empty, gaps=data.has_gaps)
    n_pool, n_test, n_classes = data.pool_images.shape[0], len(data.test_images), len(names)
    of_pool, of_test = (f"{part} of data set '{name}'" for part in ("pool_targets", "test_targets"))
    pool_targets = sound_targets(data.pool_targets, n_pool, n_classes, of_pool, blanks=True)
    test_targets = sound_targets(data.test_targets, n_test, n_classes, of_test)
    if not blanks:
        refuse_blanks(pool_targets, of_pool)
    notes = dict(data.notes)
    if not blanks and (absent := absent_classes(pool_targets, names)) is not None:
        notes["absent"] = absent
    pool, test, shared = data.pool_images, data.test_images, data.n_shared
    # Items that are computed are not compared: all of them would have to be.
    if shared is None and isinstance(pool, np.ndarray):
        shared = n_shared(pool, test)
    notes = {**shared_note(shared, len(test)), **notes}
    return replace(
        data,
        class_names=names,
        notes=notes,
        pool_targets=pool_targets,
        test_targets=test_targets,
        n_shared=shared,
    )

"""torchvision's sets of small images: ``torchvision:FashionMNIST``, ``torchvision:EMNIST:balanced``."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from alharness.errors import UserError, unknown_name
from alharness.lazily import numpy as np
from alharness.lazily import torch
from alharness.progress import Progress, silent
from alharness.tasks.arrays import as_items, data_of, defaults_for
from alharness.tasks.base import DataLocations, Profile, TaskData, TaskDefaults, TaskPlugin
from alharness.tasks.hints import TORCHVISION
from alharness.tasks.rows import Rows, SplitParameters, divided

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Where ``alharness list`` shows it.
FAMILY = "Downloads (fetched with --download or by 'alharness data prepare NAME')"


class TorchvisionSet(TaskPlugin):
    """A data set of torchvision: torchvision:NAME, for instance torchvision:FashionMNIST.

    Its part for training is the pool, its part for tests the test set. EMNIST has several splits:
    torchvision:EMNIST:balanced. A run downloads nothing.
    """

    source = "torchvision, below the data root"
    takes_argument = True

    def __init__(self, name: str, argument: str | None = None, **parameters: Any) -> None:
        super().__init__(name, argument, **parameters)
        self.set, _, self.part = (argument or "").partition(":")
        if argument and self.set not in TORCHVISION:
            raise unknown_name("set of torchvision", self.set, TORCHVISION)
        if bool(self.part) != (self.set == "EMNIST") and argument:
            expected = (
                "torchvision:EMNIST:balanced" if self.set == "EMNIST" else f"{name}:{self.set}"
            )
            raise UserError(f"Expected {expected}; found '{name}:{argument}'.")

    def defaults(self, profile: Profile) -> TaskDefaults:
        side = TORCHVISION[self.set]
        return defaults_for(profile, (1, side, side))

    def load(self, locations: DataLocations, progress: Progress = silent) -> TaskData:
        where = f"torchvision:{self.argument}"
        opened = [self._open(locations, training=training) for training in (True, False)]
        items = [_items(found, where) for found in opened]
        rows = Rows(
            items=np.concatenate(items),
            labels=np.concatenate([_targets(found) for found in opened]),
            split=np.repeat(["train", "test"], [len(part) for part in items]),
            # EMNIST's letters count from 1, with a name for the 0 that no image has.
            names=getattr(opened[0], "classes", None),
            notes={"source": f"torchvision {self.argument}"},
        )
        return data_of(divided(rows, SplitParameters(), where), rows.items)

    def _open(self, locations: DataLocations, *, training: bool) -> Any:
        from torchvision import datasets

        cls = getattr(datasets, self.set)
        options: dict[str, Any] = {"download": locations.download}
        # Sets differ in how they are asked for a part: train=, split=, or QMNIST's what=.
        if "train" in inspect.signature(cls.__init__).parameters or self.set == "EMNIST":
            options["train"] = training
        else:
            options["split"] = "train" if training else "test"
        if self.part:
            options["split"] = self.part
        if self.set == "QMNIST":
            options = {"what": "train" if training else "test50k", "download": locations.download}
        root = locations.data_root
        try:
            return cls(root, **options)
        except (RuntimeError, OSError, ValueError) as error:
            packed = sorted((root / self.set).glob("raw/*.gz"))
            if packed:  # as they lie on the makers' pages; torchvision looks for what is in them
                raise UserError(
                    f"torchvision:{self.argument} cannot be opened: torchvision reads the unpacked files, "
                    f"found {packed[0].name} in {packed[0].parent}. Unpack them: gunzip -k "
                    f"{packed[0].parent}/*.gz"
                ) from error
            first = (str(error).splitlines() or [""])[0].rstrip(".")
            told = ", ".join(
                f"{key}={value!r}" for key, value in {**options, "download": True}.items()
            )
            raise UserError(
                f"torchvision:{self.argument} cannot be opened in {root}: {first}. Fetch it once with "
                f"python -c \"from torchvision.datasets import {self.set} as d; d('{root}', {told})\", or "
                "give the folder that holds it with --data-root."
            ) from error


def _items(found: Any, where: str) -> NDArray[np.uint8]:
    data = found.data
    values = data.numpy() if isinstance(data, torch.Tensor) else np.asarray(data)
    return as_items(values, where)


def _targets(found: Any) -> NDArray[np.int64]:
    given = found.targets if hasattr(found, "targets") else found.labels
    targets = np.asarray(given)
    return (targets[:, 0] if targets.ndim == 2 else targets).astype(np.int64)  # QMNIST tells more

"""What a plug-in must leave as it is, as marks to be compared before and after it was called.

Marks are by name, in a user's words. Cheap ones cost microseconds and see what torch sees (every
write through torch counts up a tensor's version); ``contents`` reads everything and sees the rest.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import nn

from alharness import seeds
from alharness.availability import Availability
from alharness.border.state import Marks
from alharness.labelled import LabelledSet
from alharness.pool import Pool

#: Bytes of a pool that are read for its contents; of a larger one, ranges spread over it.
CONTENTS_BYTES = 1 << 28
N_RANGES = 64
#: Items whose predictions stand for what the classifier does.
N_PROBE = 8


def pool_marks(name: str, pool: Pool) -> Marks:
    """The items as far as torch counts writes, and the methods that hand them out."""
    return {f"{name} ({type(part).__name__})": _object_marks(part) for part in _parts(pool)}


def _parts(pool: Pool) -> Iterator[Pool]:
    while True:
        yield pool
        inner = getattr(pool, "wrapped", None)
        if not isinstance(inner, Pool):
            return
        pool = inner


def _object_marks(part: object) -> tuple[object, ...]:
    found: list[object] = []
    for key, value in vars(part).items():
        if isinstance(value, torch.Tensor):
            version = None if value.is_inference() else value._version
            found.append((key, id(value), version))
        elif isinstance(value, np.ndarray) or (callable(value) and hasattr(type(part), key)):
            found.append((key, id(value)))
        elif key in ("n", "item_shape", "device", "pixel_max"):
            found.append((key, value))
    return tuple(found)


def contents(pool: Pool) -> int:
    """Checksum of the raw items in memory; 0 for items that are computed or read from a file."""
    if pool.residency not in ("device", "host"):
        return 0
    part = min(1.0, CONTENTS_BYTES / max(1, pool.n * pool.item_bytes))
    n_ranges = N_RANGES if part < 1 else 1
    found = 0
    for number in range(n_ranges):
        begin, end = pool.n * number // n_ranges, pool.n * (number + 1) // n_ranges
        stop = begin + max(1, int((end - begin) * part))
        for start in range(begin, min(stop, end), 4096):
            raw = pool.read_range(start, min(start + 4096, stop, end))
            found = zlib.crc32(raw.cpu().contiguous().numpy().data.cast("B"), found)
    return found


def label_marks(labelled: LabelledSet, available: Availability) -> Marks:
    """What is labelled, with its classes, and what was asked about."""
    return {**label_marks_of(labelled), "what was asked about": _checksum(available.asked)}


def label_marks_of(labelled: LabelledSet) -> Marks:
    """What is labelled, with its classes."""
    marks: Marks = {
        "the labelled set's indices": _checksum(labelled.indices),
        "the labelled set's classes": _checksum(labelled.targets),
        "the synthetic items' classes": _checksum(labelled.item_targets),
        "the counts of annotations": (labelled.n_asked, labelled.cost),
    }
    if labelled.items is not None:
        marks["the labelled synthetic items"] = _checksum(labelled.items)
    for name, values in labelled.extras.items():
        marks[f"the labelled set's {name}"] = _checksum(values)
    return marks


def _checksum(values: torch.Tensor) -> tuple[object, ...]:
    plain = values.detach().cpu().contiguous().numpy()
    return plain.shape, plain.dtype.str, zlib.crc32(plain.tobytes())


class Classifier(Protocol):
    """A learner, as far as the border asks."""

    def digest(self) -> str: ...

    def log_probs(self, items: torch.Tensor) -> torch.Tensor: ...


def learner_marks(learner: Classifier) -> Marks:
    """The classifier's parameters, modes and methods."""
    return {
        "the classifier's parameters": learner.digest(),
        "the classifier's methods": tuple(
            (key, id(value))
            for key, value in vars(learner).items()
            if callable(value) and hasattr(type(learner), key)
        ),
        "the classifier's class": tuple(
            (key, id(value))
            for cls in type(learner).__mro__[
                :-1
            ]  # whoever trains by it later would train otherwise
            for key, value in vars(cls).items()
            if callable(value)
        ),
        **modes(learner),
    }


def modes(learner: Classifier) -> Marks:
    """Training mode of every module, and the gradient state of every parameter; of members, too."""
    marks: Marks = {}
    for attribute, network in vars(learner).items():
        for number, member in enumerate(network if isinstance(network, list) else []):
            if hasattr(member, "log_probs"):
                inner = modes(member).items()
                marks |= {f"{attribute}.{number}.{name}": state for name, state in inner}
        if isinstance(network, nn.Module):
            for name, module in network.named_modules():
                marks[f"{attribute}.{name or 'itself'} training mode"] = module.training
            for name, parameter in network.named_parameters():
                state = (parameter.requires_grad, parameter.grad is None)
                marks[f"{attribute}.{name} gradients"] = state
    return marks


def probe_of(test: Pool) -> torch.Tensor:
    """A few items, float32 ``[N_PROBE, ...]``, that are nobody else's."""
    return test.gather(torch.arange(min(N_PROBE, test.n))).clone()


def same_predictions(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal up to what threads do to the order of sums."""
    return torch.equal(one, other) or torch.allclose(one, other, rtol=1e-4, atol=1e-5)


@contextmanager
def reseeded(seed: int | None = None) -> Iterator[None]:
    """Other global random states inside the block, and the old ones after it.

    Args:
        seed: where they begin; by default a number that follows from torch's state now, so that they are
            others whatever a user has seeded them with.
    """
    if seed is None:
        seed = zlib.crc32(torch.get_rng_state().numpy().tobytes())
    with seeds.kept():
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        yield

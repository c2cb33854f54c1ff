"""Where a network starts: weights from a file, or torchvision's by their name.

A file is safetensors, or what ``torch.save(network.state_dict(), path)`` wrote; nothing else that a
pickle may hold is executed (``weights_only``). The last layer is taken from it only where it has the
task's number of classes: pretrained weights bring a head for other classes, which is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from alharness.artefacts import read_tensors, sha256_of
from alharness.errors import UserError
from alharness.lazily import nn, torch

#: Where weights are set, unless somebody else asks for some.
SETTING = "learner.weights"


def is_file(weights: str) -> bool:
    """Whether the setting means a file and not one of torchvision's names."""
    return "/" in weights or "." in weights or Path(weights).exists()


def weights_identity(kind: str, weights: str, setting: str = SETTING) -> str:
    """What the weights are, whatever the file is called: its SHA-256, or torchvision's file name.

    Args:
        setting: what the user set, for messages.

    Raises:
        UserError: no such file or name.
    """
    if is_file(weights):
        return sha256_of(_existing(weights, setting))
    return str(_torchvision(kind, weights, setting).url).rsplit("/", 1)[-1]


def read_weights(kind: str, weights: str, setting: str = SETTING) -> dict[str, torch.Tensor]:
    """All tensors by name, on the CPU.

    Raises:
        UserError: no such file or name, not a file of weights, or a download that failed.
    """
    if not is_file(weights):
        return _downloaded(kind, weights, setting)
    path = _existing(weights, setting)
    status = path.stat()
    return _read(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)  # every cycle starts from them
def _read(path: Path, mtime_ns: int, size: int) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever it likes
        first = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"'{path}' is not a file of weights: {first} Expected safetensors, or what "
            "torch.save(network.state_dict(), path) writes."
        ) from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]  # a training script's checkpoint
    if not isinstance(found, Mapping) or not all(
        isinstance(values, torch.Tensor) for values in found.values()
    ):
        raise UserError(
            f"'{path}' holds {type(found).__name__} and not tensors by name. Expected safetensors, "
            "or what torch.save(network.state_dict(), path) writes."
        )
    return {str(name).removeprefix("module."): values for name, values in found.items()}


def load_weights(
    network: nn.Module, head: str, tensors: Mapping[str, torch.Tensor], name: str
) -> None:
    """Put tensors into a network in place; those of the head only where it has the same classes.

    Args:
        network: of kind ``name``.
        head: dotted name of its last linear layer.
        tensors: by the network's own names.

    Raises:
        UserError: a tensor that is missing, foreign or of another shape, by name.
    """
    own = network.state_dict()
    given = dict(tensors)
    weight = f"{head}.weight"
    if weight not in given or given[weight].shape != own[weight].shape:
        given |= {key: values for key, values in own.items() if key.startswith(f"{head}.")}
    wrong = [f"'{key}' is missing" for key in own if key not in given]
    wrong += [f"'{key}' is foreign" for key in given if key not in own]
    wrong += [
        f"'{key}' has shape {tuple(given[key].shape)} instead of {tuple(values.shape)}"
        for key, values in own.items()
        if key in given and given[key].shape != values.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"learner.weights do not fit the classifier '{name}': {'; '.join(wrong[:3])}{more}. Give "
            "weights of the same network, or another learner.kind."
        )
    network.load_state_dict(given)


def _existing(weights: str, setting: str) -> Path:
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(
            f"The file of weights '{weights}' does not exist (looked for {path.resolve()}). Set "
            f"{setting} to a safetensors or torch.save file."
        )
    return path


def _torchvision(kind: str, weights: str, setting: str) -> Any:
    """torchvision's entry for a name."""
    from torchvision import models

    if kind not in models.list_models():
        raise UserError(
            f"'{weights}' is not a file, and torchvision has no weights for '{kind}'. Set {setting} "
            "to a safetensors or torch.save file."
        )
    known = models.get_model_weights(kind)
    if weights not in known.__members__:
        names = ", ".join(known.__members__)
        raise UserError(
            f"torchvision has no weights '{weights}' for {kind}; it has {names}. Name one of them, or "
            f"set {setting} to a file."
        )
    return known[weights]


def _downloaded(kind: str, weights: str, setting: str) -> dict[str, torch.Tensor]:
    entry = _torchvision(kind, weights, setting)
    try:
        tensors: dict[str, torch.Tensor] = entry.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise UserError(
            f"The weights {weights} of {kind} could not be fetched from {entry.url}: {error}. Check "
            f"the network, bring the file to {folder} yourself, or set {setting} to a file."
        ) from error
    return tensors

"""Fits of several networks side by side: each is a lane of one wide step.

Small networks leave most of a GPU idle. On CUDA the lanes' parameters are stacked, a step is mapped over
them (``torch.func``), descends by one fused optimiser, and is captured once. A lane sees its own batches,
always ``batch_size`` wide (what is missing weighs nothing), and dropout masks that are a hash of its seed,
the step, the layer and the position; there are always ``learner.pack`` lanes, copies where runs are
missing. So the same width gives the same bits whoever the partners are, in every cycle and after every
stop. A CPU is no faster with wider operations, and its kernels round by where a lane lies in memory: there
lanes are trained one after the other, in the same arithmetic.

Shape letters: W lanes, S steps, B items of a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from alharness import seeds
from alharness.learners.batches import Batches, flip_crop
from alharness.learners.settings import LearnerSettings
from alharness.learners.training import descend_all, descend_on_device

#: 32 bits of a number.
_WORD = 0xFFFFFFFF
#: Where a lane's keys of dropout masks stand among its tensors.
_KEY = "key"


@dataclass(frozen=True)
class Lane:
    """One fit that waits to begin.

    Attributes:
        network: fresh, in training mode, on its device; afterwards it is trained.
        items, targets: what is labelled, ``[n, ...]`` and int64 ``[n]``, on the device.
        batches: what each step sees.
        seed: of dropout masks.
        settings: width of the pack, and how it is trained.
    """

    network: nn.Module
    items: torch.Tensor
    targets: torch.Tensor
    batches: Batches
    seed: int
    settings: LearnerSettings

    @property
    def kind(self) -> tuple[Hashable, ...]:
        """Lanes of one kind can be trained side by side."""
        shapes = tuple(parameter.shape for parameter in self.network.parameters())
        return self.settings, tuple(self.items.shape[1:]), str(self.items.device), shapes


Train = Callable[[Lane], torch.Tensor]
#: How fits of this thread find partners; without, they are alone.
_meeting: ContextVar[Train | None] = ContextVar("meeting", default=None)


@contextmanager
def fits_meet(train: Train) -> Iterator[None]:
    """Packed fits of this thread are handed to ``train`` in the ``with`` block."""
    token = _meeting.set(train)
    try:
        yield
    finally:
        _meeting.reset(token)


def train(lane: Lane) -> torch.Tensor:
    """Train a lane, beside whatever partners there are; its losses, float32 ``[S]``."""
    meet = _meeting.get()
    return meet(lane) if meet is not None else train_together([lane])[0]


def train_together(lanes: Sequence[Lane]) -> list[torch.Tensor]:
    """Train lanes of one kind, at most as many as the pack is wide; the losses of each, ``[S]``."""
    if lanes[0].items.device.type != "cuda":
        return [_train_alone(lane) for lane in lanes]
    width = lanes[0].settings.pack
    return _train_wide([*lanes, *[lanes[0]] * (width - len(lanes))])[: len(lanes)]


def _train_alone(lane: Lane) -> torch.Tensor:
    """One lane's steps, launched one by one."""
    network, settings = _with_hashed_dropout(lane.network), lane.settings
    parameters = dict(network.named_parameters())
    optimiser = torch.optim.AdamW(
        parameters.values(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    table = lane.batches.table(settings.batch_size)
    weights = lane.batches.weights(settings.batch_size)
    seed = _words(lane.seed)

    def loss_of(step: int) -> torch.Tensor:
        batch = table[step]
        images, targets = _gathered(lane.items, lane.targets, batch)
        keys = _keys(network, seed, torch.tensor(step))
        return _loss(network, {**parameters, **keys}, images, targets, weights[step])

    losses = descend_all(optimiser, loss_of, len(table))
    _take_over(lane.network, {name: value.detach() for name, value in parameters.items()})
    return losses


def _train_wide(lanes: Sequence[Lane]) -> list[torch.Tensor]:
    """All lanes' steps at once; one with fewer steps is kept as it was after its last."""
    settings, device = lanes[0].settings, lanes[0].items.device
    networks = [_with_hashed_dropout(lane.network) for lane in lanes]
    parameters, _ = stack_module_state(networks)
    network = copy.deepcopy(networks[0])
    optimiser = torch.optim.AdamW(
        parameters.values(),
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        fused=True,
        capturable=True,
    )
    items, targets = (
        torch.cat([getattr(lane, name) for lane in lanes]) for name in ("items", "targets")
    )
    tables, n_before = [], 0
    for lane in lanes:
        table = lane.batches.table(settings.batch_size)
        table[..., 0] += n_before  # rows of all lanes' items
        n_before += len(lane.items)
        tables.append(table)
    # A lane that has ended sees anything, and nobody sees the lane.
    padded = nn.utils.rnn.pad_sequence
    table = padded(tables).to(device)
    weights = padded([lane.batches.weights(settings.batch_size) for lane in lanes]).to(device)
    seed = torch.stack([_words(lane.seed) for lane in lanes], dim=1).to(device)
    trained: list[dict[str, torch.Tensor]] = [{} for _ in lanes]

    def loss_of(step: int, at: torch.Tensor) -> torch.Tensor:
        batch = table.index_select(0, at)[0]
        images, given = _gathered(items, targets, batch.flatten(0, 1))
        images, given = (part.unflatten(0, batch.shape[:2]) for part in (images, given))
        tensors = {**parameters, **_keys(network, seed, at)}

        def of_lane(own: dict[str, torch.Tensor], *data: torch.Tensor) -> torch.Tensor:
            return _loss(network, own, *data)

        return vmap(of_lane)(tensors, images, given, weights.index_select(0, at)[0])

    def keep(step: int) -> None:
        for number, lane in enumerate(lanes):
            if step == len(lane.batches.rows) - 1:
                trained[number] = {
                    name: value.detach()[number].clone() for name, value in parameters.items()
                }

    losses = descend_on_device(
        optimiser, loss_of, [()] * len(table), device, n_losses=len(lanes), after=keep
    )
    for lane, found in zip(lanes, trained, strict=True):
        _take_over(lane.network, found)
    return [losses[: len(lane.batches.rows), number] for number, lane in enumerate(lanes)]


def _gathered(
    items: torch.Tensor, targets: torch.Tensor, batch: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and targets of a batch's rows and moves."""
    rows = batch[:, 0]
    images = items.index_select(0, rows)
    if batch.shape[1] > 1:
        images = flip_crop(images, batch[:, 1:])
    return images, targets.index_select(0, rows)


def _loss(
    network: nn.Module,
    tensors: dict[str, torch.Tensor],
    images: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Mean cross-entropy of the items that weigh something."""
    logits = functional_call(network, tensors, (images,))
    losses = functional.cross_entropy(logits, targets, reduction="none")
    return (losses * weights).sum() / weights.sum().clamp(min=1.0)


def _take_over(network: nn.Module, parameters: dict[str, torch.Tensor]) -> None:
    """Write what was trained into the network that a learner holds."""
    with torch.no_grad():
        for name, place in network.named_parameters():
            place.copy_(parameters[name])


# -- dropout -----------------------------------------------------------------------------------------


class HashedDropout(nn.Module):
    """Dropout whose mask is a hash of a key and the position: the same on every device."""

    key: torch.Tensor

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.register_buffer(_KEY, torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        position = torch.arange(values.numel(), device=values.device).reshape(values.shape)
        kept = hashed(hashed(position ^ self.key) + self.key) >= round(self.share * 2**32)
        return values * kept / (1.0 - self.share)


def hashed(words: torch.Tensor) -> torch.Tensor:
    """MurmurHash3's finaliser (A. Appleby, public domain) of the lower 32 bits, in int64.

    A product of two words leaves int64 as it may: its lower 32 bits stay right.
    """
    words = words & _WORD
    words = ((words ^ (words >> 16)) * 0x85EBCA6B) & _WORD
    words = ((words ^ (words >> 13)) * 0xC2B2AE35) & _WORD
    return words ^ (words >> 16)


def _words(seed: int) -> torch.Tensor:
    """A seed as two words, int64 ``[2]``."""
    derived = seeds.derive(seed, "dropout")
    return torch.tensor([derived & _WORD, derived >> 32])


def _keys(network: nn.Module, seed: torch.Tensor, step: torch.Tensor) -> dict[str, torch.Tensor]:
    """The keys of a step's masks by the names of their buffers, each like ``seed[0]``.

    Args:
        seed: ``_words`` of one lane, ``[2]``, or of all, ``[2, W]``.
        step: its number, int64, one number.
    """
    names = [name for name, _ in network.named_buffers() if name.rpartition(".")[2] == _KEY]
    word = hashed(hashed(seed[0]) + seed[1]) + step
    return {name: hashed(hashed(word) + number) for number, name in enumerate(names)}


def _with_hashed_dropout(network: nn.Module) -> nn.Module:
    """A copy, in training mode, that draws no random numbers."""
    made = copy.deepcopy(network).train()
    for name, module in list(made.named_modules()):
        if isinstance(module, nn.Dropout):
            place, _, own = name.rpartition(".")
            setattr(made.get_submodule(place), own, HashedDropout(module.p).to(_device_of(network)))
    return made


def _device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device

"""Networks as classifiers: how they are trained, on the CPU and on a GPU, and sampled."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners.balance import weights_of
from alharness.learners.batches import Batches, flip_crop
from alharness.learners.headed import HeadedNetwork, dropout_layers
from alharness.learners.kinds import NetworkKind, network_kind
from alharness.learners.learner import SAMPLES_REMEDY, FitReport, Learner
from alharness.learners.settings import LearnerSettings
from alharness.learners.training import descend_all, descend_on_device
from alharness.learners.weights import read_weights
from alharness.pool import Pool


class NetworkLearner(Learner):
    """A network trained by Adam for a fixed number of steps with a floor.

    ``steps = max(min_steps, epochs * ceil(n / batch_size))``: with 100 labels, 20 epochs would be
    40 steps, and an under-trained random baseline fakes gains of active learning (decisions 1.8).
    There is no early stopping and no look at the test set.

    On CUDA all batches are sent at once, and steps are captured as graphs: one for full batches, one for
    the last batch of an epoch where it is shorter, or holds a lone item and its company, and there are
    enough of them. The harness's own networks only: nobody knows what a foreign one decides in Python,
    which a graph would repeat.

    Args:
        capture: replay steps as CUDA graphs, on a CUDA device; without, the same steps are launched one
            by one.
        kind: the network that ``settings.kind`` names, where it was found already.

    Raises:
        UserError: no such network, or none for such items, or weights that are not its own.
    """

    #: Items, and values of items, that a pass on the CPU takes at a time, whichever are more. Measured
    #: from 32 to 1,337 images on one core: between 64 and 200 the time per image is the same, with
    #: 1,000 it is 1.5 (mnist-cnn) to 1.7 times (all-cnn, strided-cnn).
    CPU_ITEMS = 64
    CPU_VALUES = 1 << 16

    def __init__(
        self,
        item_shape: tuple[int, ...],
        n_classes: int,
        device: torch.device,
        settings: LearnerSettings,
        *,
        capture: bool = True,
        kind: NetworkKind | None = None,
    ) -> None:
        super().__init__(item_shape, n_classes, device)
        kind = kind or network_kind(settings.kind)
        if settings.augment != "none" and len(item_shape) != 3:
            raise UserError(
                f"learner.augment={settings.augment} moves images [C, H, W]; this task's items have "
                f"shape {item_shape}. Set learner.augment=none."
            )
        kind.require_fit(item_shape, n_classes, settings.width)
        self.kind = kind
        self.settings = settings
        self.capture = capture
        self.class_weights: torch.Tensor | None = None  # of the labels of a fit
        #: ``state()`` of the cycle before, where ``fit`` starts there (learner.warm_start).
        self.warm: Mapping[str, torch.Tensor] | None = None
        self.network: HeadedNetwork  # there after ``fit``, which builds it under its own seed
        self._tensors = read_weights(settings.kind, settings.weights) if settings.weights else None

    def build(self) -> HeadedNetwork:
        """A fresh network; called under the fit's seed."""
        network = self.kind.build(
            self.item_shape,
            self.n_classes,
            width=self.settings.width,
            dropout=self.settings.dropout,
            tensors=self._tensors,
        )
        if self.device.type == "cpu":
            return network
        network.to(self.device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return network

    def loss(
        self, items: torch.Tensor, targets: torch.Tensor, step: int, steps: int
    ) -> torch.Tensor:
        """Training loss of one batch; a learner with a further training signal overrides this."""
        return functional.cross_entropy(self.network(items), targets, weight=self.class_weights)

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        items, targets = labelled.training_data(pool)
        n = len(targets)
        settings = self.settings
        self.class_weights = weights_of(targets, self.n_classes, settings.class_weight)
        batch_size = min(settings.batch_size, n)
        per_epoch = math.ceil(n / batch_size)
        steps = max(settings.min_steps, settings.epochs * per_epoch)
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed)  # initial weights and dropout
            # Built in any case: what is drawn after it is the same as from scratch.
            self.network = self.build().train()
            if self.warm is not None:
                self.network.load_state_dict(self.warm)
            batches = Batches.draw(
                n,
                batch_size,
                steps,
                torch.Generator().manual_seed(seed),
                moved=settings.augment == "flip-crop",
                in_company=any(isinstance(m, _BatchNorm) for m in self.network.modules()),
            )
            descend_through = self._descend_on_device if cuda else self._descend
            losses = descend_through(items, targets, batches)
        self.network.eval().requires_grad_(False)
        train_loss = float(losses[-per_epoch:].mean())
        return FitReport(steps, train_loss, train_loss <= math.log(self.n_classes))

    def _descend(
        self, items: torch.Tensor, targets: torch.Tensor, batches: Batches
    ) -> torch.Tensor:
        """All steps, one by one; their losses ``[S]``."""
        steps = len(batches.rows)

        def loss_of(step: int) -> torch.Tensor:
            rows = batches.rows[step]
            images = items[rows]
            if batches.moves:
                images = flip_crop(images, batches.moves[step])
            return self.loss(images, targets[rows], step, steps)

        return descend_all(self._optimiser(), loss_of, steps)

    def _descend_on_device(
        self, items: torch.Tensor, targets: torch.Tensor, batches: Batches
    ) -> torch.Tensor:
        """The same on CUDA: the batches are sent once, and steps that are alike are replayed."""
        steps, sizes = len(batches.rows), batches.sizes
        table = batches.table(max(sizes)).to(self.device)

        def loss_of(step: int, at: torch.Tensor) -> torch.Tensor:
            batch = table.index_select(0, at)[0, : sizes[step]]
            rows = batch[:, 0]
            images = items.index_select(0, rows)
            if batches.moves:
                images = flip_crop(images, batch[:, 1:])
            return self.loss(images, targets.index_select(0, rows), step, steps)

        # A network of somebody's own may do anything in a step that a graph would not repeat.
        is_known = self.capture and not self.kind.identity()
        kinds: list[tuple[Hashable, ...] | None] = []
        for step, size in enumerate(sizes):
            kind = self.kind_of_step(step, steps) if is_known else None
            kinds.append(None if kind is None else (*kind, size))
        optimiser = self._optimiser(fused=True, capturable=True)
        return descend_on_device(optimiser, loss_of, kinds, self.device)

    def _optimiser(self, **options: bool) -> torch.optim.Optimizer:
        settings = self.settings
        return torch.optim.AdamW(
            self.network.parameters(),
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            **options,  # type: ignore[arg-type]
        )

    def kind_of_step(self, step: int, steps: int) -> tuple[Hashable, ...] | None:
        """What ``loss`` makes of a step's number: steps of one kind have one computation, as a graph needs.

        None where nobody has said so of another ``loss`` than this class's own: no graph then.
        """
        return () if type(self).loss is NetworkLearner.loss else None

    def logits(self, items: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._in_pieces(self.network, items)
        return logits

    def features(self, items: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self._in_pieces(self.network.features, items)

    def _in_pieces(
        self, function: Callable[[torch.Tensor], torch.Tensor], items: torch.Tensor
    ) -> torch.Tensor:
        """A forward pass, on the CPU over so few items at a time that activations stay in the caches."""
        if self.device.type != "cpu" or (items.requires_grad and torch.is_grad_enabled()):
            return function(items)
        step = max(self.CPU_ITEMS, self.CPU_VALUES // max(1, math.prod(self.item_shape)))
        if len(items) <= step:
            return function(items)
        return torch.cat([function(piece) for piece in items.split(step)])

    def state(self) -> dict[str, torch.Tensor]:
        return dict(self.network.state_dict())

    def sample_log_probs(self, items: torch.Tensor, n: int, rng: torch.Generator) -> torch.Tensor:
        """Monte-Carlo dropout (Gal & Ghahramani 2016), each sample with one mask for all items."""
        if not dropout_layers(self.network):
            raise UserError(
                f"The classifier '{self.settings.kind}' has no dropout layer and cannot be sampled. "
                f"{SAMPLES_REMEDY}"
            )
        # A copy: asking for samples twice gives the same ones, and moves no generator of the caller's.
        own = torch.Generator()
        own.set_state(rng.get_state())
        certain, uncertain = self.network.halves(set(dropout_layers(self.network)))
        masks = [_Masks(own) for _ in range(n)]

        def sampled(piece: torch.Tensor) -> torch.Tensor:
            before = certain(piece)  # the same in all samples: computed once
            found = []
            for drawn in masks:
                with _masked(self.network, drawn):
                    found.append(functional.log_softmax(uncertain(before), dim=-1))
            return torch.stack(found, dim=1)

        with torch.no_grad():
            return self._in_pieces(sampled, items).transpose(0, 1).contiguous()

    def head_weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        layer = self.network.last_layer
        bias = layer.bias if layer.bias is not None else layer.weight.new_zeros(self.n_classes)
        return layer.weight.detach(), bias.detach()


class _Masks:
    """The dropout masks of one sample of the parameters, drawn by the first pass and kept for the others."""

    def __init__(self, rng: torch.Generator) -> None:
        self.rng = rng
        self.kept: list[torch.Tensor] = []

    def mask(self, number: int, shape: list[int], share: float, like: torch.Tensor) -> torch.Tensor:
        """What is kept by the dropout that a pass comes to as number so and so."""
        if number == len(self.kept):
            self.kept.append((torch.rand(shape, generator=self.rng) >= share).to(like))
        return self.kept[number]


@contextmanager
def _masked(network: nn.Module, masks: _Masks) -> Iterator[None]:
    """Dropout with given masks, the same for all items, in one pass through the network."""
    number = 0

    def drop(module: Any, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        nonlocal number
        values = given[0]
        shape = [1, *values.shape[1:]]
        if not isinstance(module, nn.Dropout):  # whole channels
            shape[2:] = [1] * (len(shape) - 2)
        keep = masks.mask(number, shape, module.p, values)
        number += 1
        dropped: torch.Tensor = values * keep / (1 - module.p)
        return dropped

    handles: list[RemovableHandle] = []
    try:
        for layer in dropout_layers(network):
            handles.append(layer.register_forward_hook(drop))  # after a layer that passes all on
        yield
    finally:
        for handle in handles:
            handle.remove()

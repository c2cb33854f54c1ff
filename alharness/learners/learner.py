"""The harness's own classifiers: linear, or a network; from scratch in each cycle.

The paper (Sec. 4.2) trains from scratch in each cycle, without augmentation except on LSUN. Outside
``fit`` a learner is in evaluation mode and does not change. The recipe is the same for every strategy.

Shape letters: N items, C classes, D features, S samples of the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners import networks, packed
from alharness.learners.base import (
    SAMPLES_REMEDY,
    FitReport,
    Learner,
    LearnerFactory,
    LearnerSettings,
)
from alharness.learners.batches import Batches, flip_crop
from alharness.learners.ensemble import Ensemble
from alharness.learners.estimator import EstimatorLearner
from alharness.learners.kinds import (
    EstimatorKind,
    Kind,
    LearnerKind,
    NetworkKind,
    build_network,
    find_kind,
    head_of,
)
from alharness.learners.networks import Classifier, HeadedNetwork
from alharness.learners.training import descend, descend_on_device
from alharness.learners.weights import read_weights, weights_identity
from alharness.plugins import LEARNERS, identity_of
from alharness.pool import Pool

__all__ = [
    "FitReport",
    "Learner",
    "LearnerFactory",
    "LearnerSettings",
    "LinearLearner",
    "NetworkLearner",
    "learner_factory",
]


class LinearLearner(Learner):
    """L2-regularised softmax regression on raw values, h(x) = Wx + b, trained to convergence.

    Minimises ``sum_i CE(h(x_i), y_i) + |W|^2 / (2 C)`` with an unpenalised bias: scikit-learn's
    objective. Two classes share one weight vector (logits 0 and w.x + b), because penalising two
    vectors would halve the effective regularisation.

    The objective is convex, so the seed plays no part. L-BFGS runs in float64: with 50 labels the
    optimum is flat in many directions and float32 stops the line search early.

    It is solved on the CPU, whatever the device, while the labelled items have at most ``CPU_VALUES``
    numbers: then the same labels give the same bits everywhere. Counted on 200 digits of ten classes,
    a fit on the device makes 6,929 host reads and 43,000 launches, a third of a second however fast the
    device is; solved here it makes two reads, of items and targets. One evaluation reads the items
    twice, at the limit 64 MB in float64: some 5 ms for one core.
    """

    seeded = False

    #: Largest absolute gradient entry, relative to the number of labels, at which L-BFGS stops.
    TOLERANCE = 1e-7
    #: n x D up to which the CPU solves: 1,365 labels of 32x32x3, 5,349 of 28x28.
    CPU_VALUES = 1 << 22

    def __init__(
        self,
        item_shape: tuple[int, ...],
        n_classes: int,
        device: torch.device,
        settings: LearnerSettings | None = None,
    ) -> None:
        super().__init__(item_shape, n_classes, device)
        self.settings = settings or LearnerSettings()
        n_vectors = 1 if n_classes == 2 else n_classes
        self.weight = torch.zeros(n_vectors, math.prod(item_shape), device=device)
        self.bias = torch.zeros(n_vectors, device=device)

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        items, targets = labelled.training_data(pool, more_bytes=8)
        if items.numel() <= self.CPU_VALUES:
            items, targets = items.cpu(), targets.cpu()
        x_ND = items.flatten(1).double()
        where = x_ND.device
        weight = torch.zeros(self.weight.shape, dtype=x_ND.dtype, device=where, requires_grad=True)
        bias = torch.zeros(self.bias.shape, dtype=x_ND.dtype, device=where, requires_grad=True)
        n = len(targets)
        tolerance = self.TOLERANCE
        solver = torch.optim.LBFGS(
            [weight, bias],
            max_iter=self.settings.max_iterations,
            max_eval=2 * self.settings.max_iterations,
            tolerance_grad=tolerance,
            tolerance_change=0.0,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def objective() -> torch.Tensor:
            cross_entropy = functional.cross_entropy(
                _two_columns(functional.linear(x_ND, weight, bias)), targets, reduction="sum"
            )
            return (cross_entropy + weight.square().sum() / (2 * self.settings.c)) / n

        def closure() -> torch.Tensor:
            solver.zero_grad()
            loss = objective()
            loss.backward()
            return loss

        solver.step(closure)
        steps = int(solver.state[weight]["n_iter"])
        closure()
        assert weight.grad is not None
        assert bias.grad is not None
        gradient = max(float(weight.grad.abs().max()), float(bias.grad.abs().max()))
        weight, bias = weight.detach().float(), bias.detach().float()
        logits_NC = _two_columns(functional.linear(items.flatten(1), weight, bias))
        loss = functional.cross_entropy(logits_NC, targets)
        self.weight, self.bias = weight.to(self.device), bias.to(self.device)
        # The line search ends where float64 cannot tell two objectives apart, sometimes short of
        # the tolerance; ten times the tolerance is still far below what a prediction can show.
        return FitReport(steps, float(loss), gradient <= 10 * tolerance)

    def logits(self, items: torch.Tensor) -> torch.Tensor:
        return _two_columns(functional.linear(items.flatten(1), self.weight, self.bias))

    def features(self, items: torch.Tensor) -> torch.Tensor:
        return items.flatten(1)

    def state(self) -> dict[str, torch.Tensor]:
        return {"weight": self.weight, "bias": self.bias}

    def head_weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        return _two_columns(self.weight.T).T, _two_columns(self.bias[None])[0]


def _two_columns(logits: torch.Tensor) -> torch.Tensor:
    """The one logit of a binary model as two: class 0 has logit 0."""
    if logits.shape[-1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=-1)


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
    ) -> None:
        super().__init__(item_shape, n_classes, device)
        kind = find_kind(settings.kind)
        if not isinstance(kind, NetworkKind):
            raise UserError(
                f"Classifier '{settings.kind}' is not a network. Use one, such as learner.kind=mlp."
            )
        if settings.augment != "none" and len(item_shape) != 3:
            raise UserError(
                f"learner.augment={settings.augment} moves images [C, H, W]; this task's items have "
                f"shape {item_shape}. Set learner.augment=none."
            )
        head_of(kind, item_shape, n_classes, settings.width)
        self.kind = kind
        self.settings = settings
        self.capture = capture
        self.network: HeadedNetwork  # there after ``fit``, which builds it under its own seed
        self._tensors = read_weights(settings.kind, settings.weights) if settings.weights else None

    def build(self) -> HeadedNetwork:
        """A fresh network; called under the fit's seed."""
        network = build_network(
            self.kind,
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
        return functional.cross_entropy(self.network(items), targets)

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        items, targets = labelled.training_data(pool)
        n = len(targets)
        settings = self.settings
        batch_size = min(settings.batch_size, n)
        per_epoch = math.ceil(n / batch_size)
        steps = max(settings.min_steps, settings.epochs * per_epoch)
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed)  # initial weights and dropout
            self.network = self.build().train()
            batches = Batches.draw(
                n,
                batch_size,
                steps,
                torch.Generator().manual_seed(seed),
                moved=settings.augment == "flip-crop",
                in_company=any(isinstance(m, _BatchNorm) for m in self.network.modules()),
            )
            if not self._is_packed:
                descend_through = self._descend_on_device if cuda else self._descend
                losses = descend_through(items, targets, batches)
        if self._is_packed:  # nothing is drawn any more
            losses = packed.train(
                packed.Lane(self.network, items, targets, batches, seed, settings)
            )
        self.network.eval().requires_grad_(False)
        train_loss = float(losses[-per_epoch:].mean())
        return FitReport(steps, train_loss, train_loss <= math.log(self.n_classes))

    @property
    def _is_packed(self) -> bool:
        """Beside others, as ``learner.pack`` says; a subclass with another loss is trained by itself."""
        return self.settings.pack > 1 and type(self).loss is NetworkLearner.loss

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

        losses = [loss for _, loss in descend(self._optimiser(), loss_of, steps)]
        return torch.stack(losses)

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

        is_known = self.capture and not identity_of(LEARNERS, self.settings.kind)
        kinds: list[tuple[Hashable, ...] | None] = []
        for step, size in enumerate(sizes):
            kind = self.kind_of_step(step, steps) if is_known else None
            kinds.append(None if kind is None else (*kind, size))
        optimiser = self._optimiser(fused=True, capturable=True)
        return descend_on_device(optimiser, loss_of, kinds, self.device)[:, 0]

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


def dropout_layers(network: nn.Module) -> list[nn.Module]:
    """Layers that drop features or channels in training."""
    return [
        module
        for module in network.modules()
        if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d)
        and module.p > 0
    ]


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


def learner_factory(settings: LearnerSettings) -> LearnerFactory:
    """What makes the classifiers of a recipe, an ensemble of them where it has several members.

    With ``freeze`` they are linear heads on the rows that ``frozen.embed`` makes of the items.

    Raises:
        UserError: no such classifier, or settings that it does not have.
    """
    kind = check_settings(settings)

    def one(item_shape: tuple[int, ...], n_classes: int, device: torch.device) -> Learner:
        if settings.freeze:
            return LinearLearner(item_shape, n_classes, device, settings)
        if isinstance(kind, NetworkKind):
            return NetworkLearner(item_shape, n_classes, device, settings)
        if isinstance(kind, EstimatorKind):
            return EstimatorLearner(item_shape, n_classes, device, kind)
        options = {"settings": settings} if kind.takes_settings else {}
        return kind.cls(item_shape, n_classes, device, **options)

    def several(item_shape: tuple[int, ...], n_classes: int, device: torch.device) -> Learner:
        members = [one(item_shape, n_classes, device) for _ in range(settings.members)]
        return Ensemble(item_shape, n_classes, device, members)

    return one if settings.members == 1 else several


def check_settings(settings: LearnerSettings) -> Kind:
    """Find the kind, and refuse settings that it would ignore. Loads no data and builds nothing.

    Raises:
        UserError: no such classifier, or settings that it does not have.
    """
    kind = find_kind(settings.kind)
    own = isinstance(kind, LearnerKind) and kind.cls is not LinearLearner and kind.takes_settings
    # A class that takes the settings may read them; only the harness freezes.
    forms = ("freeze",) if own else ("dropout", "weights", "freeze")
    asked = [name for name in forms if getattr(settings, name)]
    if asked and not isinstance(kind, NetworkKind):
        raise UserError(
            f"learner.{asked[0]} is for networks; the classifier '{settings.kind}' is none. Use one, "
            f"for instance learner.kind=mlp, or leave learner.{asked[0]} out."
        )
    if settings.pack > 1 and (settings.freeze or not _is_packable(kind)):
        what = "a frozen network's head" if settings.freeze else f"the classifier '{settings.kind}'"
        raise UserError(
            f"learner.pack trains the harness's own networks side by side, and {what} is none of them. Use "
            "learner.kind=mlp, mnist-cnn, all-cnn or strided-cnn, or leave learner.pack (--executor packed) "
            "out."
        )
    if settings.freeze and settings.dropout:
        raise UserError(
            "learner.freeze trains a linear head, which has no dropout. Use learner.members=5 for "
            "several heads, or leave learner.dropout out."
        )
    if settings.freeze and settings.augment != "none":
        raise UserError(
            "learner.freeze computes features once, so that images cannot be augmented. Set "
            "learner.augment=none, or leave learner.freeze out."
        )
    return kind


def _is_packable(kind: Kind) -> bool:
    """Whether several networks can go through one: no foreign Python, no statistics of a batch."""
    return isinstance(kind, NetworkKind) and kind.make.__module__ == networks.__name__


def sources(settings: LearnerSettings) -> dict[str, str]:
    """What the settings rest on and do not hold: foreign source and weights, for a run's key.

    Raises:
        UserError: a file that is not there.
    """
    found = identity_of(LEARNERS, settings.kind)
    if settings.weights:
        found["learner.weights"] = weights_identity(settings.kind, settings.weights)
    return found


def lacking(
    settings: LearnerSettings,
    needs: Collection[str],
    problem: tuple[tuple[int, ...], int] | None = None,
) -> str | None:
    """What a strategy needs of its classifier and will not get, as a reason; None when all is there.

    Args:
        needs: ``gradients`` (of the logits with respect to the items), ``samples`` (of the parameters)
            and ``activations`` (of a network's hidden layers).
        problem: item shape and number of classes, once they are known: a network is built for them to
            see whether it has dropout of its own.

    Raises:
        UserError: no such classifier, or settings that it does not have.
    """
    kind = check_settings(settings)
    if "gradients" in needs:
        if settings.freeze:
            return (
                "it searches for images by gradients of the classifier, which learner.freeze moves to "
                "features; leave learner.freeze out"
            )
        own = isinstance(kind, LearnerKind) and not kind.cls.differentiable
        if own or isinstance(kind, EstimatorKind):
            return (
                f"it searches for images by gradients of the classifier, and '{settings.kind}' has "
                "none; use a network, for instance learner.kind=mlp"
            )
    if "activations" in needs:
        if not isinstance(kind, NetworkKind) and settings.kind != "linear":
            return (
                f"it trains a module beside a network, and '{settings.kind}' is none; use "
                "learner.kind=mlp, mnist-cnn, all-cnn, strided-cnn or linear"
            )
        if settings.members > 1 or settings.freeze:
            name = "members=1" if settings.members > 1 else "freeze=false"
            return f"it trains a module beside one whole network; set learner.{name}"
        if isinstance(kind, NetworkKind) and problem is not None:
            with torch.random.fork_rng(devices=[]):
                network = build_network(kind, *problem, width=settings.width)
            if not (isinstance(network, Classifier) and isinstance(network.body, nn.Sequential)):
                return (
                    f"it reads the ReLUs of the harness's own networks, and '{settings.kind}' is "
                    "another one; use learner.kind=mlp, mnist-cnn, all-cnn or strided-cnn"
                )
    if (
        "samples" in needs
        and settings.members == 1
        and not _can_be_sampled(settings, kind, problem)
    ):
        return (
            f"it needs several sets of parameters, and '{settings.kind}' has one. "
            f"{SAMPLES_REMEDY.rstrip('.')}"
        )
    return None


def _can_be_sampled(
    settings: LearnerSettings, kind: Kind, problem: tuple[tuple[int, ...], int] | None
) -> bool:
    """Whether one classifier has several sets of parameters; a network may as long as none is built."""
    if isinstance(kind, LearnerKind):
        return kind.cls.sample_log_probs is not Learner.sample_log_probs
    if isinstance(kind, EstimatorKind) or settings.freeze:
        return False
    if settings.dropout or problem is None:
        return True
    with torch.random.fork_rng(devices=[]):
        network = build_network(kind, *problem, width=settings.width)
    return bool(dropout_layers(network))

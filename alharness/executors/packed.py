"""Runs in threads of one process whose classifiers are trained together; all else goes on one at a time.

One run at a time has the turn: it selects, evaluates and writes undisturbed, and is timed as if it were
alone. It gives the turn away only where it comes to the fit of a packed classifier (``learner.pack``). When
every run that is under way has come to its fit, all of them are trained side by side. A run that ends, or
fails, is no longer waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import torch

from alharness.learners.packed import Lane, fits_meet, train_together
from alharness.timing import set_aside


@dataclass(eq=False)
class _Waiting:
    """A run at its fit.

    Attributes:
        lane: what is to be trained.
        losses, error: how it went; both None until then.
        share_s: seconds of the training, shared out among those who were trained.
    """

    lane: Lane
    losses: torch.Tensor | None = None
    error: Exception | None = None
    share_s: float = 0.0

    @property
    def is_done(self) -> bool:
        return self.losses is not None or self.error is not None


class Meeting:
    """Where the runs of one process take turns, and their fits meet."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._is_taken = False  # the turn
        self._n_runs = 0
        self._at_fit: list[_Waiting] = []

    @contextmanager
    def run(self) -> Iterator[None]:
        """A run, from its beginning to its end: waits for the turn, and passes it on afterwards."""
        with self._change:
            self._n_runs += 1
            self._take()
        try:
            with fits_meet(self._fit):
                yield
        finally:
            with self._change:
                self._n_runs -= 1
            self._train_when_all_are_there()
            with self._change:
                self._give()

    def _take(self, waiting: _Waiting | None = None) -> None:
        """Wait for the turn, and for a fit to be done."""
        self._change.wait_for(lambda: not self._is_taken and (waiting is None or waiting.is_done))
        self._is_taken = True

    def _give(self) -> None:
        self._is_taken = False
        self._change.notify_all()

    def _fit(self, lane: Lane) -> torch.Tensor:
        """Train a lane beside the others; the time that others take is not this run's."""
        began, waiting = perf_counter(), _Waiting(lane)
        with self._change:
            self._at_fit.append(waiting)
        self._train_when_all_are_there()
        if not waiting.is_done:
            with self._change:
                self._give()
                self._take(waiting)
        set_aside(perf_counter() - began - waiting.share_s)
        if waiting.error is not None:
            raise waiting.error
        assert waiting.losses is not None
        return waiting.losses

    def _train_when_all_are_there(self) -> None:
        """Called with the turn."""
        with self._change:
            if len(self._at_fit) < self._n_runs:
                return
            found, self._at_fit = self._at_fit, []
        while found:
            kind = found[0].lane.kind
            alike = [one for one in found if one.lane.kind == kind][: found[0].lane.settings.pack]
            _train(alike)
            found = [one for one in found if not one.is_done]


def _train(together: Sequence[_Waiting]) -> None:
    """Train side by side; where that fails, each by itself, so that an error is its own run's."""
    began = perf_counter()
    try:
        results = train_together([one.lane for one in together])
        for one, losses in zip(together, results, strict=True):
            one.losses = losses
            one.share_s = (perf_counter() - began) / len(together)
    except Exception as error:
        if len(together) == 1:
            together[0].error = error
            return
        for one in together:
            _train([one])

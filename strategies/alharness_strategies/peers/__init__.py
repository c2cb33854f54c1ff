"""Strategies that other libraries publish, under the same loop: ``skactiveml:CoreSet``, ``baal:BALD``.

One file per library; this one holds what they share. A peer is used as it is published, with its faults,
which are told at every run of it (``Strategy.caveat``): each names a public issue, or says that it was found
here and which test shows it. Versions of the libraries are part of a run's key.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from alharness.errors import UserError, unknown_name
from alharness.lazily import torch
from alharness.strategy import CycleView, Parameters, PoolQuery, Strategy

#: What a published strategy is given as the rows of its items.
Space = Literal["items", "features"]


@dataclass(frozen=True)
class Peer:
    """What a published strategy needs, and what is known to be wrong with it.

    Attributes:
        needs: ``probabilities``, ``committee``, ``features``, ``refit`` or ``nothing``.
        space: its rows: the items, or the classifier's features where the method is defined on them.
        fault: a known fault, with the public issue or the test that shows it.
        cannot: why it cannot be asked here at all.
        binary_only: whether it works for two classes only.
    """

    needs: Literal["nothing", "probabilities", "committee", "features", "refit"] = "nothing"
    space: Space = "items"
    fault: str = ""
    cannot: str = ""
    binary_only: bool = False


class PeerParameters(Parameters):
    """What may be set with ``--set strategy.NAME=VALUE``."""

    space: Literal["default", "items", "features"] = Field(
        "default",
        description="rows of the items, of the classifier's features, or as the method is defined",
        json_schema_extra={"seen_elsewhere": "by methods that take rows"},
    )
    n_samples: int = Field(
        20,
        ge=2,
        description="members of a committee drawn by dropout; an ensemble has its own",
        json_schema_extra={"seen_elsewhere": "by methods that take samples"},
    )


class PeerStrategy(Strategy):
    """A strategy of another library, by the name that it has there.

    Class attributes:
        library: its distribution; ``module`` what is imported; ``install`` the command that brings it.
        peers: what is known of each strategy by name.
    """

    Parameters: ClassVar[type[Parameters]] = PeerParameters
    parameters: PeerParameters
    takes = "NAME"

    library: ClassVar[str]
    module: ClassVar[str]
    install: ClassVar[str]
    peers: ClassVar[Mapping[str, Peer]]

    def __init__(self, peer: str, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.peer = peer
        self.known = self.peers[peer]
        self.binary_only = self.known.binary_only  # type: ignore[misc]  # by instance here
        if self.known.needs == "committee":
            self.learner_needs = frozenset({"samples"})

    @classmethod
    def parse(cls, argument: str) -> tuple[dict[str, Any], str | None]:
        if argument not in cls.peers:
            # Only what can be asked: the rest would be refused at the next try.
            asked = [name for name, peer in cls.peers.items() if not peer.cannot]
            raise unknown_name(f"strategy of {cls.library}", argument, asked)
        if cls.peers[argument].cannot:
            raise UserError(
                f"'{argument}' of {cls.library} cannot be asked here: {cls.peers[argument].cannot}."
            )
        return {"peer": argument}, None

    @classmethod
    def imported(cls, module: str | None = None) -> Any:
        """The library's module.

        Raises:
            UserError: the library is not installed.
        """
        try:
            return importlib.import_module(module or cls.module)
        except ModuleNotFoundError as error:
            raise UserError(
                f"{cls.library} is not installed here ({error}). Install it with: {cls.install}"
            ) from error

    def identity(self) -> Mapping[str, str]:
        self.imported()
        try:
            return {f"library.{self.library}": version(self.library)}
        except PackageNotFoundError:  # a checkout on the path
            return {f"library.{self.library}": "unknown version"}

    @property
    def caveat(self) -> str:
        """The known fault of this strategy as it is published; empty when none is known."""
        return f"{self.library}'s {self.peer}: {self.known.fault}" if self.known.fault else ""

    @property
    def space(self) -> Space:
        """What its rows are."""
        chosen = self.parameters.space
        return self.known.space if chosen == "default" else chosen

    def rows(self, view: CycleView, indices: torch.Tensor | None = None) -> torch.Tensor:
        """Rows of pool items in the strategy's space, float32 ``[n, D]``; of the whole pool by default."""
        wanted = torch.arange(view.pool.n) if indices is None else indices
        return view.features(wanted) if self.space == "features" else view.rows(wanted)

    def proba_of_rows(self, view: CycleView, rows: Any) -> NDArray[np.float64]:
        """Probabilities ``[n, C]`` of rows in the strategy's space; each row sums to one."""
        given = torch.from_numpy(np.ascontiguousarray(rows)).float().to(view.device)
        if self.space == "features":
            weight_CD, bias_C = view.learner.head_weights()
            log_p_NC = (given @ weight_CD.T + bias_C).log_softmax(dim=1)
        else:
            log_p_NC = view.learner.log_probs(given.reshape(-1, *view.pool.item_shape))
        return normalised(log_p_NC)


def normalised(log_p: torch.Tensor) -> NDArray[np.float64]:
    """Probabilities in float64 whose sums over the last axis are one, as peers check."""
    p = log_p.double().exp()
    found: NDArray[np.float64] = (p / p.sum(dim=-1, keepdim=True)).cpu().numpy()
    return found


def as_query(indices: Any) -> PoolQuery:
    """A peer's answer: pool indices in its order."""
    return PoolQuery(torch.as_tensor(np.ascontiguousarray(indices), dtype=torch.int64))

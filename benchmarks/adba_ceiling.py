"""How well can ADBA do at all? A linear classifier on the latent codes of the whole pool.

    python benchmarks/adba_ceiling.py --dataset mnist-two --out benchmarks/results/adba_ceiling.json

A strategy sees no targets, so this ceiling is measured here and not by the strategy. Beside it stand
the reconstruction errors of the codes and the same classifier on the images themselves. Uses the
artefacts that ``alharness run --strategy adba`` left in the store, and makes them when there are none.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from alharness.artefacts import ArtefactStore, Supply, default_store_root
from alharness.generative import GeneratorSettings, obtain_generator
from alharness.labelled import LabelledSet
from alharness.learners.learner import LearnerSettings, LinearLearner
from alharness.pool import ArrayPool, Pool
from alharness.records import Ledger
from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations
from alharness_strategies.adba import AdbaParameters
from alharness_strategies.inversion import obtain_codes


def accuracy(pool: Pool, test: Pool, targets: torch.Tensor, test_targets: torch.Tensor) -> float:
    """Test accuracy of the linear classifier trained on every item of a pool."""
    learner = LinearLearner(pool.item_shape, 2, pool.device, LearnerSettings())
    everything = LabelledSet(indices=torch.arange(pool.n), targets=targets, n_asked=pool.n)
    learner.fit(everything, pool, seed=0)
    predicted = torch.cat([learner.logits(items).argmax(dim=1).cpu() for _, items in test.blocks()])
    return float((predicted == test_targets).float().mean())


def measure(dataset: str, store: Path, profile: str) -> dict[str, Any]:
    """Ceilings in latent and image space, with the errors of the codes."""
    data = resolve_task(dataset).load(DataLocations.resolve())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pool, test = data.open_pool(device), data.open_test(device)
    supply = Supply(ArtefactStore(store), Ledger(device))
    generator = obtain_generator(
        pool,
        GeneratorSettings().resolve(profile, pool.item_shape, dataset),
        supply,
        task=dataset,
    )
    defaults = AdbaParameters()
    codes = obtain_codes(
        generator,
        pool,
        test,
        supply,
        encoder_steps=defaults.encoder_steps,
        refine_steps=defaults.refine_steps,
    )
    targets = torch.as_tensor(data.pool_targets)
    test_targets = torch.as_tensor(data.test_targets)
    of_codes = ArrayPool(codes.pool, device), ArrayPool(codes.test, device)
    norms = codes.pool.norm(dim=1)
    return {
        "dataset": dataset,
        "ceiling_codes": accuracy(*of_codes, targets, test_targets),
        "ceiling_images": accuracy(pool, test, targets, test_targets),
        "codes": dict(supply.ledger.entries[-1].details),
        "generator": dict(supply.ledger.entries[0].details),
        "norm_median": float(norms.median()),
        "norm_largest": float(norms.max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="mnist-two")
    parser.add_argument("--profile", default="quick", choices=["quick", "paper"])
    parser.add_argument("--store", type=Path, default=default_store_root())
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result = measure(options.dataset, options.store, options.profile)
    result["generator"].pop("samples", None)
    text = json.dumps(result, indent=2) + "\n"
    print(text, end="")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        partial = options.out.with_name(options.out.name + ".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(options.out)


if __name__ == "__main__":
    main()

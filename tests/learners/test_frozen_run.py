"""A run on a frozen backbone: features once for all seeds, a head per cycle, the same when resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from alharness.api.running import places_of
from alharness.artefacts import write_tensors
from alharness.engine.runner import execute
from alharness.spec import resolve

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, item_shape, n_classes):
        super().__init__()
        self.body = nn.Linear(64, 16)
        self.fc = nn.Linear(16, n_classes)

    def forward(self, x):
        return self.fc(self.body(x.flatten(1)).tanh())
"""


def test_cycles_train_a_head_on_features_that_are_made_once(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    torch.manual_seed(0)
    body = torch.nn.Linear(64, 16)
    weights = {f"body.{name}": values for name, values in body.state_dict().items()}
    write_tensors(tmp_path / "net.safetensors", weights)
    given: dict[str, Any] = {
        "task": "digits-ten",
        "strategy": "typiclust",
        "budget": 60,
        "query_size": 10,
        "initial_size": 40,
        "learner": {
            "kind": f"{tmp_path / 'net.py'}:Net",
            "weights": str(tmp_path / "net.safetensors"),
            "freeze": True,
        },
    }
    records = []
    for seed in (0, 1):
        spec = resolve({**given, "seed": seed})
        records.append(execute(spec, places_of(tmp_path / "runs", None)).records())
    costs = [
        {entry.name: entry.cached for entry in found[0].time.preparation or []} for found in records
    ]
    assert [cost["embeddings"] for cost in costs] == [False, True]
    assert "autoencoder" not in costs[0]  # rows are clustered as they are
    assert records[0][-1].test.accuracy > 0.5

    where = places_of(tmp_path / "stopped", None)
    spec = resolve({**given, "seed": 0})
    execute(spec, where, max_cycles=1)
    resumed = execute(spec, where).records()
    assert [record.learner_digest for record in resumed] == [
        record.learner_digest for record in records[0]
    ]

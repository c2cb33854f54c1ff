"""What a user may have meant by a name that no data set has. Imports no data set."""

from __future__ import annotations

from pathlib import Path

from alharness.plugins import TASKS, names

#: Files that a user may name as a data set, and the task that reads them.
FILES = {
    **dict.fromkeys((".npz", ".npy"), "npz"),
    **dict.fromkeys((".csv", ".tsv", ".tab", ".parquet", ".pq"), "table"),
}

#: Sets that hold their images as one array, with a part for training and one for tests: side of an image.
TORCHVISION = {
    "MNIST": 28,
    "FashionMNIST": 28,
    "KMNIST": 28,
    "QMNIST": 28,
    "EMNIST": 28,
    "USPS": 16,
    "CIFAR10": 32,
    "CIFAR100": 32,
    "SVHN": 32,
    "STL10": 96,
}


def meant_by(name: str) -> str | None:
    """What to say of a name: a folder or a file of data, or a set of torchvision in any spelling.

    Returns:
        a sentence with the name that works; None where nothing is known about it.
    """
    path = Path(name)
    if path.is_dir():
        parquet = any(path.rglob("*.parquet"))
        kind = "images in parquet files" if parquet else "images in one folder per class"
        task = "parquet" if parquet else "folder"
        return f"'{name}' is a folder. For {kind}: --dataset {task}:{name}"
    task = FILES.get(path.suffix.lower(), "")
    if task:
        return f"'{name}' is a file of data. Name what reads it: --dataset {task}:{name}"
    plain = name.lower().replace("-", "").replace("_", "")
    for known in TORCHVISION:
        if known.lower() == plain:
            ours = [ours for ours in names(TASKS) if ours.startswith(f"{plain}-")]
            first = f" (or one of our own: {', '.join(ours)})" if ours else ""
            argument = f"{known}:balanced" if known == "EMNIST" else known
            return f"'{name}' is a set of torchvision: --dataset torchvision:{argument}{first}"
    return None

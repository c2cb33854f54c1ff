"""VGG's features from a file of weights, against torchvision's own network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional
from torchvision import models

from alharness.cli import call
from alharness.errors import UserError
from alharness.records import run_folders
from alharness.spec import resolve
from alharness_strategies.asal_vgg import AsalVgg


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return models.vgg11(weights=None).features.eval()


@pytest.fixture(scope="module")
def file(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As torch.save of the whole network writes it; what stands behind the convolutions plays no part."""
    tensors = {f"features.{name}": values for name, values in network.state_dict().items()}
    path = tmp_path_factory.mktemp("vgg") / "vgg11.pth"
    torch.save({**tensors, "classifier.6.bias": torch.zeros(1000)}, path)
    return path


@pytest.mark.parametrize(("n_blocks", "n_layers"), [(1, 3), (2, 6), (5, 21)])
def test_features_are_those_of_torchvision(
    n_blocks: int, n_layers: int, network: torch.nn.Module, file: Path
) -> None:
    strategy = AsalVgg(network="vgg11", weights=str(file), blocks=n_blocks)
    images = torch.rand(4, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    found = strategy.read(torch.device("cpu"))(images)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]  # what ImageNet's weights expect
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        expected = network[:n_layers]((images - mean) / std).mean(dim=(2, 3))
    assert torch.allclose(found, expected, atol=1e-5)


def test_small_and_grey_images_are_enlarged_and_shown_in_three_channels(file: Path) -> None:
    extractor = AsalVgg(network="vgg11", weights=str(file)).read(torch.device("cpu"))
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    large = functional.interpolate(images, size=(32, 32), mode="bilinear", align_corners=False)
    assert torch.allclose(extractor(images), extractor(large.expand(-1, 3, -1, -1)), atol=1e-6)
    assert tuple(extractor(images).shape) == (2, 512)


def test_weights_of_another_network_are_refused_by_name(file: Path) -> None:
    with pytest.raises(UserError, match=r"do not fit vgg16: 'features\.2\.weight' is missing"):
        AsalVgg(network="vgg16", weights=str(file), blocks=1).read(torch.device("cpu"))


def test_without_weights_it_says_what_to_give_before_data_are_loaded() -> None:
    with pytest.raises(UserError, match=r"needs weights of vgg16: --set strategy\.weights=FILE"):
        resolve({"task": "mnist-two", "strategy": "asal-vgg"})


def test_the_weights_are_part_of_the_run_key_and_a_missing_file_is_said_first(
    file: Path, tmp_path: Path
) -> None:
    def key(path: Path) -> str:
        chosen = {"name": "asal-vgg", "network": "vgg11", "weights": str(path)}
        return resolve({"task": "digits-two", "strategy": chosen}).run_key

    other = tmp_path / "vgg11.pth"
    other.write_bytes(file.read_bytes())
    before = key(other)
    torch.save({"features.0.bias": torch.ones(64)}, other)
    assert key(other) != before
    with pytest.raises(UserError, match=r"does not exist .* Set strategy\.weights"):
        key(tmp_path / "nowhere.pth")


def test_a_run_matches_by_them(file: Path, tmp_path: Path) -> None:
    words = ["run", "--strategy", "asal-vgg", "--dataset", "digits-two", "--no-tracking", "--quiet"]
    words += ["--runs-dir", str(tmp_path), "--budget", "40", "--set", "generator.steps=4"]
    for text in ("network=vgg11", f"weights={file}", "blocks=2", "latent_steps=3"):
        words += ["--set", f"strategy.{text}"]
    assert call(words) == 0
    (folder,) = run_folders(tmp_path)
    ledger = {entry.name: entry for entry in folder.records()[0].time.prepared}
    assert ledger["features"].details["extractor"] == "vgg"
    assert folder.records()[0].query.diagnostics["match_distance"] > 0

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from types import ModuleType

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

PUBLISHED = {
    "mobilenet-v1": 4_231_976,  # 4.2 M, table 9 of the paper; this many in Keras and tensorflow/models
    "mobilenet-v2": 3_504_872,  # 3.4 M, table 4 of the paper; this many in torchvision
    "mobilenet-v3-small": 2_542_856,  # 2.5 M, table 3 of the paper; this many in torchvision
    "mobilenet-v3-large": 5_483_032,  # 5.4 M, table 3 of the paper; this many in torchvision
    "resnet-18": 11_689_512,  # torchvision
    "resnet-50": 25_557_032,  # torchvision
    "squeezenet": 1_235_496,  # 1.24 M in the authors' repository; this many in torchvision's 1.1
    "shufflenet-v2": 2_278_604,  # 2.3 M, table 8 of the paper; this many in torchvision
    "efficientnet-lite0": 4_652_008,  # 4.7 M in tensorflow/tpu; this many in timm
    "vit-tiny": 5_717_416,  # 5.7 M in timm and the authors' repository (5 M in table 1 of the paper)
    "ds-cnn": 23_756,  # 24,908 of MLPerf Tiny's Keras model with the 1,152 running statistics
    "lstm": 205_324,  # two layers of 4 x 128 x (inputs + 128 + 2 biases), and a linear one
}


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import zoo

    return zoo


def test_the_zoo_has_the_networks_of_the_papers_by_their_number_of_parameters(zoo: ModuleType) -> None:
    counted = {name: sum(part.numel() for part in entry.make().parameters()) for name, entry in zoo.ZOO.items()}
    assert counted == PUBLISHED


@pytest.mark.parametrize("name", ["mobilenet-v3-small", "shufflenet-v2", "ds-cnn", "lstm"])
def test_a_network_of_the_zoo_is_the_same_each_time_and_gives_answers_that_differ(zoo: ModuleType, name: str) -> None:
    entry = zoo.ZOO[name]
    batch = torch.from_numpy(zoo.samples(entry.shape, 4, seed=5))
    with torch.no_grad():
        first, second = (entry.network()(batch) for _ in range(2))
    assert torch.equal(first, second)
    assert first.isfinite().all()
    assert (first.std(dim=0) > 1e-3).any()

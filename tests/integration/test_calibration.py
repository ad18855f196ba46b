"""One float pass over the samples: what it gathers, what it costs, when it stops, and what a crash costs."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from quantize_models import IMAGE, dataset, samples, settled
from torch import nn

from edgeq.errors import EmptyDatasetError, NonFiniteActivationError, SamplesAlikeError
from edgeq.model import Dataset, Model
from edgeq.progress import Silent
from edgeq.project import InputSpec
from edgeq.quantize.calibrate import calibrate
from edgeq.quantize.float_graph import FloatGraph
from edgeq.quantize.plan import plan_int8
from edgeq.quantize.threads import torch_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.quantize.statistics import Statistics

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))


class Heard:
    """Keeps what calibration tells."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.counts: list[tuple[int, int | None]] = []

    def step(self, text: str) -> None:
        self.steps.append(text)
        self.counts.clear()

    def advance(self, done: int, total: int | None = None) -> None:
        self.counts.append((done, total))


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return settled(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 3, groups=8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 4),
        )
    )


def graph_of(module: nn.Module, shape: tuple[int, ...] = IMAGE) -> FloatGraph:
    return FloatGraph(Model(name="small", module=module, example_inputs=(torch.zeros(shape),)), None, progress=Silent())


def calibrated(
    graph: FloatGraph, data: Dataset, *, converge: bool = True, progress: Heard | Silent | None = None
) -> Statistics:
    return calibrate(
        graph.graph,
        data,
        tensors=frozenset(plan_int8(graph.graph.graph).leader),
        converge=converge,
        progress=progress or Silent(),
    )


def state(statistics: Statistics) -> dict[str, np.ndarray]:
    return {
        f"{name}/{part}": array for name, tensor in statistics.tensors.items() for part, array in tensor.state().items()
    }


def same(one: Statistics, other: Statistics) -> bool:
    mine, others = state(one), state(other)
    return mine.keys() == others.keys() and all(np.array_equal(mine[name], others[name]) for name in mine)


def test_the_pass_sees_what_the_float_model_computes() -> None:
    module, given = small_net(), samples(IMAGE, count=12)
    statistics = calibrated(graph_of(module), dataset(given))
    with torch.no_grad():
        after_clamp = torch.cat([module[:3](*inputs) for inputs in given])
        results = torch.cat([module(*inputs) for inputs in given])
    clamp, result = statistics.tensors["hardtanh"], statistics.tensors["linear"]
    assert clamp.maximum == pytest.approx(float(after_clamp.max()))
    torch.testing.assert_close(clamp.channel_maximum, after_clamp.amax(dim=(0, 2, 3)))
    assert (result.minimum, result.maximum) == (
        pytest.approx(min(0.0, float(results.min())), rel=1e-4),
        pytest.approx(max(0.0, float(results.max())), rel=1e-4),
    )
    assert result.channel_maximum.shape == (4,)
    assert clamp.histogram.counts.sum() + clamp.histogram.zeros == after_clamp.numel()
    assert (statistics.data.samples, statistics.data.offered, statistics.data.converged_after) == (12, 12, None)


def test_the_fingerprint_is_that_of_the_samples_read() -> None:
    data = dataset(samples(IMAGE, count=6))
    list(data)
    assert calibrated(graph_of(small_net()), dataset(samples(IMAGE, count=6))).data.sha256 == data.sha256


def test_it_tells_how_far_it_is() -> None:
    heard, data = (
        Heard(),
        Dataset(lambda: samples(IMAGE, count=5), (InputSpec(shape=IMAGE),), where="f", labelled=False),
    )
    calibrated(graph_of(small_net()), data, progress=heard)
    assert heard.steps == ["calibrating"]
    assert heard.counts == [(count, 5) for count in range(1, 6)]


class Logarithm(nn.Module):
    """NaN for a sample whose mean is negative."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.last = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.log(self.first(x).mean((2, 3))))


def test_a_layer_that_reads_nan_is_named_with_its_line() -> None:
    with pytest.raises(NonFiniteActivationError, match=r"test_calibration\.py:\d+: return self\.last\(torch\.log"):
        calibrated(graph_of(Logarithm()), dataset(samples(IMAGE, count=8)))


def test_no_sample_and_samples_alike_are_errors() -> None:
    spec = (InputSpec(shape=IMAGE),)
    with pytest.raises(EmptyDatasetError):
        calibrated(graph_of(small_net()), Dataset(list, spec, where="f", labelled=False))
    alike = Dataset(lambda: samples(IMAGE, count=1) * 400, spec, where="f", labelled=False)
    with pytest.raises(SamplesAlikeError):
        calibrated(graph_of(small_net()), alike)


def endless() -> Iterator[tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(5)
    while True:
        yield (torch.rand(IMAGE, generator=generator),)


def test_reading_stops_when_the_ranges_stand() -> None:
    """The samples never end."""
    data = Dataset(endless, (InputSpec(shape=IMAGE),), where="f", labelled=False)
    found = calibrated(graph_of(small_net()), data).data
    assert found.converged_after
    assert 96 < found.converged_after < 400
    assert found.samples == 3 * found.converged_after  # sixteen times as many were skimmed, one in eight
    assert found.offered is None


def sorted_samples() -> Iterator[tuple[torch.Tensor, ...]]:
    """300 dark pictures, then 300 bright ones."""
    generator = torch.Generator().manual_seed(5)
    for brightness in (1.0, 3.0):
        for _ in range(300):
            yield (torch.rand(IMAGE, generator=generator) * brightness,)


def test_samples_that_are_sorted_do_not_pass_for_all_of_them() -> None:
    data = Dataset(sorted_samples, (InputSpec(shape=IMAGE),), where="f", labelled=False)
    statistics = calibrated(graph_of(small_net()), data)
    assert 0.99 * 3 < statistics.tensors["input_1"].maximum <= 3
    assert 144 + 300 * 0.8 < statistics.data.samples < 600  # of the bright ones, nearly all
    assert statistics.data.offered == 600


def growing(count: int) -> Iterator[tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(5)
    for index in range(count):
        yield (torch.rand(IMAGE, generator=generator) * (1 + index / 20),)


def test_reading_goes_on_while_a_range_grows() -> None:
    data = Dataset(lambda: growing(400), (InputSpec(shape=IMAGE),), where="f", labelled=False)
    statistics = calibrated(graph_of(small_net()), data)
    assert (statistics.data.samples, statistics.data.converged_after) == (400, None)


def test_a_project_may_have_every_sample_read() -> None:
    given = samples(IMAGE, count=400)
    assert calibrated(graph_of(small_net()), dataset(given)).data.samples < 400
    assert calibrated(graph_of(small_net()), dataset(given), converge=False).data.samples == 400


def test_a_second_calibration_reads_the_samples_and_runs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    given, graph = samples(IMAGE, count=20), graph_of(small_net())
    first = calibrated(graph, dataset(given))
    monkeypatch.setattr(torch.fx.Interpreter, "run", None)
    heard = Heard()
    second = calibrated(graph, dataset(given), progress=heard)
    assert same(first, second)
    assert second.data == first.data
    assert heard.steps == ["comparing 20 samples with those of an earlier calibration", "calibrating"]


@pytest.mark.parametrize("change", ["a sample", "fewer samples"])
def test_other_samples_are_noticed_and_said(change: str) -> None:
    given, graph = samples(IMAGE, count=20), graph_of(small_net())
    calibrated(graph, dataset(given))
    changed = given[:19] if change == "fewer samples" else [*given[:7], *samples(IMAGE, count=1, seed=9), *given[8:]]
    heard = Heard()
    again = calibrated(graph, dataset(changed), progress=heard)
    assert "the samples are not those of the earlier calibration; calibrating anew" in heard.steps
    assert again.data.samples == len(changed)


def test_samples_added_at_the_end_are_all_that_is_run() -> None:
    given, graph = samples(IMAGE, count=30), graph_of(small_net())
    calibrated(graph, dataset(given[:20]))
    heard = Heard()
    added = calibrated(graph, dataset(given), progress=heard)
    assert [done for done, _ in heard.counts] == list(range(21, 31))
    assert (added.data.samples, added.data.offered) == (30, 30)


@pytest.mark.parametrize("first", [50, 200, 390])
def test_a_pass_in_two_parts_gives_what_one_pass_gives(
    first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the ranges stand, after that, and after they moved again."""
    graph, spec = graph_of(small_net()), (InputSpec(shape=IMAGE),)
    data = [Dataset(lambda n=n: islice(sorted_samples(), n), spec, where="f", labelled=False) for n in (first, 450)]
    calibrated(graph, data[0])
    parts = calibrated(graph, data[1])
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "other"))
    whole = calibrated(graph, data[1])
    assert same(parts, whole)
    assert parts.data == whole.data


def test_another_weight_is_another_calibration() -> None:
    given, module = samples(IMAGE, count=8), small_net()
    calibrated(graph_of(module), dataset(given))
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0] += 1.0
    heard = Heard()
    calibrated(graph_of(module), dataset(given), progress=heard)
    assert heard.steps == ["calibrating"]


def test_an_iterator_that_is_read_once_is_calibrated_on_whatever_an_earlier_run_read() -> None:
    graph = graph_of(small_net())
    calibrated(graph, dataset(samples(IMAGE, count=6)))
    other = samples(IMAGE, count=5)
    stored = iter([(inputs[0] + 1,) for inputs in other])
    data = Dataset(lambda: stored, (InputSpec(shape=IMAGE),), where="calibration", labelled=False)
    heard = Heard()
    statistics = calibrated(graph, data, progress=heard)
    assert statistics.data.samples == 5
    assert heard.steps == ["calibrating"]


def test_a_damaged_checkpoint_is_made_anew(tmp_path: Path) -> None:
    given, graph = samples(IMAGE, count=8), graph_of(small_net())
    first = calibrated(graph, dataset(given))
    (file,) = (tmp_path / "cache" / "calibration").iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    for damaged in (bytes(data), bytes(data[:100]), b""):
        file.write_bytes(damaged)
        assert same(calibrated(graph, dataset(given)), first)


def test_the_cache_keeps_a_few_calibrations(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "calibration"
    folder.mkdir(parents=True)
    for index in range(12):
        file = folder / f"{index:064}.npz"
        file.write_bytes(b"old")
        os.utime(file, (index, index))
    abandoned = folder / ".key.npz.x1y2"
    abandoned.write_bytes(b"killed while writing")
    os.utime(abandoned, (0, 0))
    calibrated(graph_of(small_net()), dataset(samples(IMAGE, count=4)))
    left = {file.name for file in folder.iterdir()}
    assert len(left) == 8
    assert f"{11:064}.npz" in left
    assert f"{4:064}.npz" not in left
    assert abandoned.name not in left


def in_a_process(function: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run a function of this file in another process."""
    code = f"import test_calibration; test_calibration.{function}()"
    environment = {**os.environ, "EDGEQ_CACHE": str(cache), "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def calibrated_on_growing(*, killed_at: int | None = None, progress: Heard | Silent | None = None) -> Statistics:
    def samples_until() -> Iterator[tuple[torch.Tensor, ...]]:
        for index, sample in enumerate(growing(100)):
            if index == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield sample

    data = Dataset(samples_until, (InputSpec(shape=IMAGE),), where="f", labelled=False)
    with torch_threads(1):
        return calibrated(graph_of(small_net()), data, progress=progress)


def calibrate_and_be_killed() -> None:
    calibrated_on_growing(killed_at=70)


def test_after_a_kill_at_most_a_batch_is_run_again_and_nothing_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = in_a_process("calibrate_and_be_killed", tmp_path / "cache")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    heard = Heard()
    resumed = calibrated_on_growing(progress=heard)
    resumed_at, _ = heard.counts[0]
    assert 70 - 16 < resumed_at <= 70
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "other"))
    whole = calibrated_on_growing()
    assert same(resumed, whole)
    assert resumed.data == whole.data


def tell_peaks_of_memory() -> None:
    """Print the process's peak memory in KiB after a pass over 32 samples, and after one over 512."""
    shape = (1, 3, 112, 112)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU6(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU()).eval()
    graph = graph_of(module, shape)
    for count in (32, 512):

        def data(count: int = count) -> Iterator[tuple[torch.Tensor, ...]]:
            generator = torch.Generator().manual_seed(count)
            for _ in range(count):
                yield (torch.randn(shape, generator=generator),)

        given = Dataset(data, (InputSpec(shape=shape),), where="f", labelled=False)
        with torch_threads(1):
            assert calibrated(graph, given, converge=False).data.samples == count
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # noqa: T201  # read by the test


def test_sixteen_times_the_samples_take_no_more_memory(tmp_path: Path) -> None:
    """All 512 samples at once would take 77 MB."""
    told = in_a_process("tell_peaks_of_memory", tmp_path / "cache")
    assert not told.returncode, told.stderr
    few, many = map(int, told.stdout.split())
    assert many < few + 10_000

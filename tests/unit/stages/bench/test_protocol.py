"""How a session measures: warm-up, paces, cores, the device's state, memory."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgeq.device.cores import CORES_SCRIPT
from edgeq.device.health import HEALTH_SCRIPT
from edgeq.device.transport import Completed
from edgeq.errors import NotPinnedError, UnfitDeviceError
from edgeq.progress import Silent
from edgeq.records import Deployment, Manifest
from edgeq.runner import Pace
from edgeq.stages.bench import bench, measurements_path, read_measurements, settings
from edgeq.stages.bench.leak import EVERY, RUNS
from edgeq.stages.deploy import deploy
from edgeq.testing import FakeTransport, sample_bundle, sample_facts, sample_target, tiny_build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from edgeq.records import Measurement

BIG_LITTLE = b"core 0 500 -\ncore 1 500 -\ncore 2 1024 -\ncore 3 1024 -\n"


class Board(FakeTransport):
    """A fake whose cores, and what its runner says, a test may change."""

    cores = b""
    rewrite: Callable[[bytes], bytes] = staticmethod(lambda line: line)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: Iterable[bytes] = (),
        on_stdout: Callable[[bytes], None] | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> Completed:
        if CORES_SCRIPT in argv and self.cores:
            self.ran.append(tuple(argv))
            return Completed(status=0, stdout=self.cores, stderr=b"")
        changed = None if on_stdout is None else lambda data: on_stdout(self.rewrite(data))
        return super().run(argv, stdin=stdin, on_stdout=changed, env=env, timeout_s=timeout_s)

    def visits(self) -> list[tuple[str, ...]]:
        return [argv for argv in self.ran if "--model" in argv]


@dataclass
class Setup:
    build: Path
    manifest: Manifest
    device: Board
    deployment: Deployment

    def bench(self, **options: Any) -> tuple[Measurement, ...]:
        threads = {} if self.deployment.device_facts.emulated else {"threads": (2,)}
        how = settings(sample_target(), self.deployment, **{**threads, **options})
        return bench(self.build, self.manifest, self.deployment, self.device, how, progress=Silent())


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setenv("HOME", str(tmp_path / "host"))
    manifest = tiny_build(tmp_path / "build")
    device = Board(tmp_path / "device")
    bundles = {"executorch": sample_bundle(tmp_path / "bundle")}
    deployed = deploy(tmp_path / "build", manifest, sample_target(), device, bundles, device="fake", progress=Silent())
    device.ran.clear()
    return Setup(tmp_path / "build", manifest, device, deployed.deployment)


def test_the_warm_up_is_as_long_as_it_was_found_to_be(setup: Setup) -> None:
    setup.device.rewrite = _slow_until(15)
    row = setup.bench()[0]
    warmups = {argv[argv.index("--warmup") + 1] for argv in setup.device.visits()[6:26]}

    assert row.steady_after == 15
    assert row.warmup == 15
    assert warmups == {"15"}
    assert [len(each) for each in row.steady_search_ns] == [40] * 3
    assert len(row.before_ns) == 10 * (1 + 15)
    assert len(row.latencies_ns) == 20


def test_a_first_look_that_is_too_short_is_followed_by_a_longer_one(setup: Setup) -> None:
    setup.device.rewrite = _slow_until(30)
    row = setup.bench(artifacts=("tiny.fp32.pte",))[0]

    assert [argv[argv.index("--repeats") + 1] for argv in setup.device.visits()[:6]] == [
        *["40"] * 3,
        *["400"] * 3,
    ]
    assert (row.steady_after, row.warmup, len(row.steady_search_ns[0])) == (30, 30, 400)


def test_a_level_that_never_holds_is_told_and_measured_all_the_same(setup: Setup) -> None:
    setup.device.rewrite = lambda data: re.sub(
        rb'"ns":1000(\d{3}),', lambda found: b'"ns":%d,' % (1000 + 50 * int(found[1])), data
    )
    row = setup.bench()[0]

    assert row.steady_after is None
    assert [len(each) for each in row.steady_search_ns] == [400] * 3
    assert row.warmup == 2


def test_an_emulated_board_is_not_searched_for_a_level_and_not_asked_how_busy_it_is_meanwhile(setup: Setup) -> None:
    setup.deployment = replace(setup.deployment, device_facts=sample_facts(emulated=True))
    row = setup.bench()[0]

    assert (row.steady_after, row.steady_search_ns, row.cpus, row.unfit) == (None, (), (0, 1, 2, 3), ())
    assert len(row.states) == 2
    assert not any("--cpus" in argv or "--most-ms" in argv for argv in setup.device.visits())


def test_a_row_holds_starts_memory_and_spans(setup: Setup) -> None:
    row = setup.bench()[0]

    assert row.cold_start_ns == 10_000_000
    assert (row.load_rss_bytes, row.load_anonymous_bytes) == (2_000_000, 1_000_000)
    assert row.spans_ns == (3_000_004,) * 10
    assert row.mhz == (1800,) * 10
    assert (row.mode, row.executions_ns, row.pause_ms, row.rate_hz, row.leak) == ("back-to-back", (), None, None, None)
    assert not row.test_faults


def test_the_state_is_read_before_at_each_round_and_after(setup: Setup) -> None:
    setup.device._health = "zone cpu-thermal 55000\nthrottled 0\n"
    row = setup.bench()[0]
    watched = [argv[-1] for argv in setup.device.ran if HEALTH_SCRIPT in argv]

    assert [state.celsius for state in row.states] == [55.0] * 12
    assert watched == ["1", *["0"] * 10, "1"]


def test_at_a_rate_latencies_count_from_the_arrival_and_executions_are_kept_beside(setup: Setup) -> None:
    row = setup.bench(pace=Pace(rate_hz=50.0))[0]

    assert (row.mode, row.rate_hz, row.arrivals) == ("at-rate", 50.0, "poisson")
    assert min(row.latencies_ns) > 1_500_000
    assert max(row.executions_ns) < 1_100_000
    assert len(row.executions_ns) == len(row.latencies_ns) == 20
    assert (row.total, row.correct) == (0, None)


def test_each_round_has_other_arrivals_the_same_for_all_artifacts(setup: Setup) -> None:
    setup.bench(pace=Pace(rate_hz=50.0))
    seeds = [argv[argv.index("--seed") + 1] for argv in setup.device.visits()[6:]]

    assert seeds == [str(number) for number in range(1, 6) for _ in range(2)]


def test_single_shots_are_kept_apart_from_the_rows_that_are_compared(setup: Setup) -> None:
    rows = setup.bench(pace=Pace(pause_ms=20))

    assert {row.mode for row in rows} == {"single-shot"}
    assert {row.pause_ms for row in rows} == {20}
    assert all("--pause-ms" in argv for argv in setup.device.visits())


def test_threads_run_on_the_fast_cores_of_a_device_with_two_kinds(setup: Setup) -> None:
    setup.device.cores = BIG_LITTLE
    row = setup.bench()[0]

    assert {argv[argv.index("--cpus") + 1] for argv in setup.device.visits()} == {"2,3"}
    assert row.pinning == "the fastest 2 of 4 cores"


def test_cores_that_cannot_be_had_are_told_or_refused_if_they_were_asked_for(setup: Setup) -> None:
    setup.device.cores = BIG_LITTLE
    setup.device.rewrite = lambda data: data.replace(b'"ready_ns"', b'"not_pinned":"no such CPU","ready_ns"')

    assert setup.bench()[0].pinning == "not pinned: no such CPU"
    with pytest.raises(NotPinnedError) as caught:
        setup.bench(cpus=(0, 1))
    assert "0,1: no such CPU" in caught.value.message


def test_an_unfit_device_is_refused_before_anything_runs(setup: Setup) -> None:
    setup.device._health = "zone cpu-thermal 91000\n"
    with pytest.raises(UnfitDeviceError):
        setup.bench()

    assert setup.device.visits() == []
    assert not measurements_path(setup.build).exists()


def test_with_force_the_row_says_why_it_was_not_fit(setup: Setup) -> None:
    setup.device._health = "zone cpu-thermal 91000\n"
    setup.bench(force=True)

    assert {row.unfit for row in read_measurements(setup.build)} == {("it is 91 C hot, from 80 C on it slows down",)}


def test_a_clock_that_moves_between_visits_is_refused_on_a_board(setup: Setup) -> None:
    setup.device._health = "clock policy0 scaling_governor=ondemand\n"
    clocks = itertools.cycle([b'"khz":1800000', b'"khz":600000'])
    setup.device.rewrite = lambda data: re.sub(rb'"khz":\d+', lambda _: next(clocks), data)

    with pytest.raises(UnfitDeviceError, match="between 600 and 1800 MHz"):
        setup.bench()
    assert "under load moved" in setup.bench(force=True)[0].unfit[0]


@pytest.mark.parametrize(("loses", "verdict"), [(0, "does not grow"), (4096, "grows")])
def test_a_leak_check_looks_at_a_thousand_inferences(setup: Setup, loses: int, verdict: str) -> None:
    setup.device.faults.leaks_bytes = loses
    row = setup.bench(leak_check=True)[0]

    assert row.leak is not None
    assert row.leak.runs == tuple(range(EVERY, RUNS + 1, EVERY))
    assert (row.leak.verdict, row.leak.grew_bytes) == (verdict, 900 * loses)


def test_rows_of_a_runner_that_tests_can_make_slow_say_so(setup: Setup) -> None:
    setup.device.rewrite = lambda data: data.replace(b'"protocol"', b'"test_faults":true,"protocol"')

    assert setup.bench()[0].test_faults


def _slow_until(index: int) -> Callable[[bytes], bytes]:
    """Runs with a number below ``index`` take twice as long."""

    def rewrite(data: bytes) -> bytes:
        for number in range(1, index + 1):
            data = data.replace(b'"ns":%d,' % (1_000_000 + number), b'"ns":%d,' % (2_000_000 + number))
        return data

    return rewrite


def test_a_longer_look_that_would_be_too_short_as_well_is_left_out(setup: Setup) -> None:
    """Where four seconds hold three runs, twenty do not hold twenty."""
    setup.device.rewrite = lambda data: _only(data, 3)
    row = setup.bench(artifacts=("tiny.fp32.pte",), pace=Pace(pause_ms=2000), repeats=1)[0]

    assert (row.steady_after, [len(each) for each in row.steady_search_ns]) == (None, [3] * 3)
    assert sum("--most-ms" in argv for argv in setup.device.visits()) == 3


def _only(data: bytes, runs: int) -> bytes:
    """Without the timed runs from that one on."""
    later = rb'\{"event":"run","kind":"timed","at_ns":(\d+),[^}]*\}\n'
    return re.sub(later, lambda found: found[0] if int(found[1]) <= 2_000_000 * runs else b"", data)


def test_what_only_one_of_the_looks_shows_is_not_the_processes_own(setup: Setup) -> None:
    setup.device.rewrite = _slow_until(12)
    slow = setup.device.rewrite
    setup.device.rewrite = lambda data: slow(data) if len(setup.device.visits()) == 2 else data
    row = setup.bench(artifacts=("tiny.fp32.pte",))[0]

    assert row.steady_after == 0

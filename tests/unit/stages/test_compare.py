from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edgeq.errors import ConfigError, NothingToCompareError, UnknownNameError
from edgeq.progress import Silent
from edgeq.records import Comparison, Manifest
from edgeq.schema import from_json
from edgeq.stages.bench import settings
from edgeq.stages.compare import Contender, compare, pair_up
from edgeq.stages.deploy import deploy
from edgeq.testing import FakeTransport, sample_bundle, sample_facts, sample_target, tiny_build

NAMES = ("tiny.fp32.pte", "tiny.int8-static.pte")


@dataclass
class Setup:
    builds: tuple[Path, Path]
    manifest: Manifest
    device: FakeTransport
    contenders: tuple[Contender, ...]

    def compare(self, names: tuple[str, ...] = (), **options: object) -> tuple[Comparison, ...]:
        pairs = pair_up([(path, self.manifest) for path in self.builds], names).pairs
        how = settings(sample_target(), self.contenders[0].deployment, **{"threads": (1,), **options})  # type: ignore[arg-type]
        return compare(self.contenders, pairs, self.device, how, progress=Silent())

    def emulate(self) -> None:
        self.contenders = tuple(
            replace(one, deployment=replace(one.deployment, device_facts=sample_facts(emulated=True)))
            for one in self.contenders
        )


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setenv("HOME", str(tmp_path / "host"))
    builds = tmp_path / "before", tmp_path / "after"
    manifest = tiny_build(builds[0])
    shutil.copytree(*builds)
    device = FakeTransport(tmp_path / "device")
    bundles = {"executorch": sample_bundle(tmp_path / "bundle")}
    contenders = []
    for path in builds:
        done = deploy(
            path, manifest, sample_target(), device, bundles, device="fake", activate=False, progress=Silent()
        )
        contenders.append(Contender(build=path, manifest=manifest, deployment=done.deployment))
    device.ran.clear()
    return Setup(builds, manifest, device, tuple(contenders))


def test_artifacts_of_one_name_take_turns_and_each_pair_has_a_verdict(setup: Setup) -> None:
    rows = setup.compare()
    assert [row.artifact for row in rows] == list(NAMES)
    for row in rows:
        assert len(row.reference.latencies_ns) == len(row.candidate.latencies_ns) == sum(row.reference.rounds)
        assert row.ratio is not None
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.ratio <= row.high
        assert row.smallest_effect is not None
    assert {row.session for row in rows} == {rows[0].session}


def test_every_sample_of_a_comparison_is_kept_in_the_later_build(setup: Setup) -> None:
    rows = setup.compare()
    before, after = setup.builds
    lines = (after / "comparisons.jsonl").read_bytes().splitlines()
    assert tuple(from_json(Comparison, line, where="test") for line in lines) == rows
    assert not (before / "comparisons.jsonl").exists()


def test_each_round_visits_every_side_once_in_an_order_of_its_own(setup: Setup) -> None:
    setup.compare()
    visits = [argv for argv in setup.device.ran if "--model" in argv]
    timed = visits[-40:]
    rounds = [timed[start : start + 4] for start in range(0, 40, 4)]
    orders = {tuple(Path(argv[argv.index("--model") + 1]).name for argv in one) for one in rounds}
    assert all(sorted(order) == sorted(NAMES * 2) for order in orders)
    assert len(orders) > 1


def test_an_emulated_board_compares_counts_and_tells_no_time(setup: Setup) -> None:
    setup.emulate()
    for row in setup.compare(threads=()):
        assert (row.ratio, row.low, row.verdict, row.smallest_effect) == (None, None, "cannot tell", None)
        assert "emulator" in row.reason
        assert (row.instructions_ratio, row.cost) == (1.0, "same")
        assert row.reference.latencies_ns == ()


def test_counts_of_two_precisions_tell_nothing_of_each_other(setup: Setup) -> None:
    setup.emulate()
    pairs = pair_up([(setup.builds[0], setup.manifest)], NAMES).pairs
    how = settings(sample_target(), setup.contenders[0].deployment)
    (row,) = compare(setup.contenders[:1], pairs, setup.device, how, progress=Silent())
    assert (row.reference.recipe, row.candidate.recipe) == ("fp32", "int8-static")
    assert row.cost == "cannot tell"


def test_of_one_build_the_first_named_artifact_is_held_against_the_others(setup: Setup) -> None:
    (pair,) = pair_up([(setup.builds[0], setup.manifest)], (NAMES[1], NAMES[0])).pairs
    assert (pair.reference.artifact.name, pair.candidate.artifact.name) == (NAMES[1], NAMES[0])
    with pytest.raises(NothingToCompareError, match="fewer than two"):
        pair_up([(setup.builds[0], setup.manifest)], (NAMES[0],))


def test_an_artifact_without_a_counterpart_is_left_out_and_told(setup: Setup) -> None:
    fewer = replace(setup.manifest, artifacts=setup.manifest.artifacts[:1])
    before, after = setup.builds
    found = pair_up([(before, setup.manifest), (after, fewer)], ())
    assert [pair.candidate.artifact.name for pair in found.pairs] == [NAMES[0]]
    assert found.left_out == (f"{NAMES[1]}: {after} has no int8-static pte",)
    assert pair_up([(after, fewer), (before, setup.manifest)], ()).left_out == (
        f"{NAMES[1]} of {before}: the first build has no such",
    )


def test_builds_without_anything_in_common_and_unknown_names_are_errors(setup: Setup) -> None:
    before, after = setup.builds
    first, second = (replace(setup.manifest, artifacts=(one,)) for one in setup.manifest.artifacts)
    with pytest.raises(NothingToCompareError, match="no artifact of one recipe and format"):
        pair_up([(before, first), (after, second)], ())
    with pytest.raises(UnknownNameError, match="nothing"):
        pair_up([(before, first), (after, first)], ("nothing",))


def test_a_build_that_is_no_longer_what_was_deployed_is_told_before_anything_is_timed(setup: Setup) -> None:
    (setup.builds[1] / NAMES[0]).write_bytes(b"changed")
    with pytest.raises(ConfigError, match=r"tiny\.fp32\.pte"):
        setup.compare()
    assert not (setup.builds[1] / "comparisons.jsonl").exists()

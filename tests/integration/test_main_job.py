"""The main job as a person runs it: a project in, a report of what its artifacts do on an emulated board out."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from device_help import run_edgeq

EXAMPLES = Path(__file__).parents[2] / "examples"
SAMPLES = 1000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def report(home: Path) -> dict[str, Any]:
    done = run_edgeq("run", EXAMPLES / "fashion_mnist", "--target", "rpi4", "--samples", SAMPLES, "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="module")
def rows(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["artifact"]: row for row in report["rows"]}


BUILD = Path("build/fashion-mnist/rpi4")
ARTIFACTS = {f"fashion-mnist.{recipe}.{form}" for recipe in ("fp32", "int8-static") for form in ("pte", "onnx")}


def test_every_artifact_was_measured_on_every_sample_asked_for(rows: dict[str, dict[str, Any]]) -> None:
    assert set(rows) == ARTIFACTS
    assert {row["samples"] for row in rows.values()} == {SAMPLES}


def test_int8_keeps_the_accuracy_of_fp32_on_the_device(rows: dict[str, dict[str, Any]]) -> None:
    for name in ARTIFACTS:
        if "int8" in name:
            assert rows[name]["drop_pp"] <= 0.5
            assert rows[name]["int8_mac_share"] == 1.0
            assert rows[name]["delegated_mac_share"] == 1.0


def test_the_device_gives_the_hosts_answers(rows: dict[str, dict[str, Any]]) -> None:
    assert min(row["host_agreement"] for row in rows.values()) >= 0.999


def test_emulated_time_is_never_a_latency_and_instructions_stand_instead(rows: dict[str, dict[str, Any]]) -> None:
    for row in rows.values():
        assert row["timing"] == "emulated"
        assert row["p50_ms"] is row["p90_ms"] is row["p99_ms"] is row["ci95_ms"] is None
        assert row["speedup_vs_fp32"]["ratio"] is None
        assert row["speedup_vs_fp32"]["verdict"] == "cannot tell"
        assert row["instructions"] > 100_000
        assert row["peak_rss_bytes"] > 1_000_000


def test_the_manifest_holds_every_key_of_the_contract(home: Path, report: dict[str, Any]) -> None:
    del report
    manifest = json.loads((home / BUILD / "manifest.json").read_text())
    assert {"schema", "model", "target", "created_at", "tools", "calibration", "artifacts"} <= set(manifest)
    assert set(manifest["tools"]) >= {"edgeq", "torch", "torchao", "executorch", "onnx", "onnxruntime"}
    assert manifest["calibration"]["offered"] == 512
    assert 64 <= manifest["calibration"]["samples"] <= 512  # reading stops when the ranges stand
    for artifact in manifest["artifacts"]:
        assert (home / BUILD / artifact["name"]).stat().st_size == artifact["size_bytes"]
        assert {"int8_mac_share", "delegated_mac_share", "partitions", "macs", "undelegated", "host"} <= set(artifact)
        assert {"metric", "correct", "total", "sqnr_db"} <= set(artifact["host"])
        assert {"runtime", "version", "ops", "backends", "glibc"} <= set(artifact["requires"])
        for digest in artifact["golden"].values():
            assert (home / BUILD / "golden" / f"{digest}.bin").is_file()


def test_every_artifact_has_a_record_of_its_nodes_that_adds_up_to_its_shares(
    home: Path, report: dict[str, Any]
) -> None:
    del report
    for artifact in json.loads((home / BUILD / "manifest.json").read_text())["artifacts"]:
        nodes = json.loads((home / BUILD / "nodes" / f"{artifact['name']}.json").read_text())
        int8 = sum(node["mac_share"] for node in nodes["nodes"] if node["runs"] == "int8")
        delegated = sum(node["mac_share"] for node in nodes["nodes"] if node["delegated"])
        assert (int8, delegated) == pytest.approx((artifact["int8_mac_share"], artifact["delegated_mac_share"]))
        assert len(nodes["partitions"]) == (artifact["partitions"] if artifact["format"] == "pte" else 0)


def test_the_two_int8_artifacts_of_one_graph_agree(home: Path, report: dict[str, Any]) -> None:
    del report
    checks = json.loads((home / BUILD / "manifest.json").read_text())["cross_checks"]
    int8 = next(check for check in checks if check["recipe"] == "int8-static")
    assert int8["agree"] / int8["total"] >= 0.995


def test_a_row_of_the_measurements_holds_every_key_of_the_contract(home: Path, report: dict[str, Any]) -> None:
    del report
    lines = (home / BUILD / "measurements.jsonl").read_text().splitlines()
    assert len(lines) == len(ARTIFACTS)
    wanted = {
        *("schema", "id", "artifact", "artifact_sha256", "device", "device_facts", "timing", "threads", "warmup"),
        *("latencies_ns", "load_ns", "first_ns", "instructions", "peak_rss_bytes", "planned_bytes", "correct", "total"),
        *("agreement_with_host", "ops", "celsius", "throttled", "started_at", "runner_sha256"),
    }
    for line in lines:
        assert wanted <= set(json.loads(line))


def test_the_report_is_written_in_three_forms(home: Path, report: dict[str, Any]) -> None:
    assert [Path(file).name for file in report["files"]] == ["report.md", "report.html", "report.json"]
    for file in report["files"]:
        assert (home / file).stat().st_size > 1000


def test_explain_ranks_the_layers_of_the_build_and_its_simulation_is_near_to_the_artifacts(
    home: Path, report: dict[str, Any]
) -> None:
    del report
    done = run_edgeq("explain", BUILD, "--numerics", "--plot", "layers.svg", "--json", cwd=home, timeout=60)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    (numerics,) = document["numerics"]
    assert numerics["recipe"] == "int8-static"
    assert sum(row["noise_share"] for row in numerics["layers"]) == pytest.approx(1)
    for artifact in document["artifacts"]:
        assert artifact["host"]["sqnr_db"] == pytest.approx(numerics["final_sqnr_db"], abs=3)
    assert not [finding for finding in numerics["findings"] if finding["code"] == "saturating-products"]
    assert (home / "layers.svg").read_text().count('class="bar"') == len(numerics["layers"])


def test_bench_on_this_machine_gives_latencies_marked_as_the_hosts(home: Path, report: dict[str, Any]) -> None:
    del report
    done = run_edgeq("deploy", BUILD, "--device", "local", cwd=home)
    assert done.returncode == 0, done.stderr
    done = run_edgeq(
        "bench", BUILD, "--device", "local", "--force", "--samples", 500, "--repeats", 20, "--json", cwd=home
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)["measurements"]
    assert {row["timing"] for row in measured} == {"host"}
    assert all(len(row["latencies_ns"]) == 20 for row in measured)
    assert all(row["agreement_with_host"] == row["total"] == 500 for row in measured)


def test_a_second_deployment_sends_nothing(home: Path, report: dict[str, Any]) -> None:
    del report
    done = run_edgeq("deploy", BUILD, "--device", "local", "--json", cwd=home)
    assert json.loads(done.stdout)["transferred_bytes"] == 0


def test_the_board_that_deploy_starts_serves_the_commands_after_it(home: Path, report: dict[str, Any]) -> None:
    del report
    build = home / "other-board"
    shutil.copytree(home / BUILD, build)
    board = f"of-a-test-{os.getpid()}"  # a board of its own, beside those of whoever runs the tests
    for file, key in (("target.json", "name"), ("manifest.json", "target")):
        record = json.loads((build / file).read_text())
        (build / file).write_text(json.dumps({**record, key: board}))
    try:
        sent = []
        for _ in range(2):
            done = run_edgeq("deploy", build, "--device", "board", "--json", cwd=home)
            assert done.returncode == 0, done.stderr
            sent.append(json.loads(done.stdout)["transferred_bytes"])
        assert sent[0] > 1_000_000
        assert sent[1] == 0
        done = run_edgeq("bench", build, "--device", "board", "--samples", 20, "--json", cwd=home)
        assert done.returncode == 0, done.stderr
        assert {row["total"] for row in json.loads(done.stdout)["measurements"]} == {20}
    finally:
        stopped = run_edgeq("board", "stop", board, cwd=home)
    assert stopped.returncode == 0, stopped.stderr


def test_ctrl_c_in_the_middle_of_bench_ends_with_130_and_leaves_no_board(home: Path, report: dict[str, Any]) -> None:
    del report
    running = _boards(home)
    rows = (home / BUILD / "measurements.jsonl").read_bytes()
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", "edgeq", "run", str(EXAMPLES / "fashion_mnist"), "--target", "rpi4"],
        cwd=home,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if line.startswith("timing"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130, "".join(said)
    assert "Traceback" not in "".join(said)
    (board,) = {name for line in said for name in re.findall(r"emulated board (\S+)", line)}
    assert board not in _boards(home) - running  # one that somebody else had started is not ours to end
    assert (home / BUILD / "measurements.jsonl").read_bytes().startswith(rows)


def _boards(home: Path) -> set[str]:
    return {one["name"] for one in json.loads(run_edgeq("board", "list", "--json", cwd=home).stdout)}


def test_efficientnet_lite0_is_built_by_the_same_command(tmp_path: Path) -> None:
    done = run_edgeq("build", EXAMPLES / "efficientnet_lite0", "--target", "rpi4", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout)
    for artifact in manifest["artifacts"]:
        assert artifact["partitions"] == 1
        assert artifact["delegated_mac_share"] == 1.0
        if artifact["recipe"] == "int8-static":
            assert artifact["int8_mac_share"] == 1.0
            assert artifact["host"]["agree"] / artifact["host"]["total"] >= 0.95

"""The runner of this machine on real models: outputs, refusals, and damage of every kind."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runner_device import SAMPLES, SHAPE, Deployed, with_models

from edgeq.device.inventory import open_device
from edgeq.errors import DeviceError, MissingToolError, RunnerCrashedError, RunnerFailedError
from edgeq.progress import Silent
from edgeq.runner import Engine, Pace, bundle, execute, hash_files
from edgeq.target import load_target

DAMAGED = 250


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Deployed:
    return with_models(tmp_path_factory.mktemp("device"), models)


@pytest.mark.parametrize(
    "model",
    [
        "xnnpack.pte",
        "portable.pte",
        "int8.pte",
        "int8-portable.pte",
        "channels-last.pte",
        "fp32.onnx",
        "int8.onnx",
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_outputs_are_those_of_the_runtimes_own_python_interface(deployed: Deployed, model: str, threads: int) -> None:
    done, outputs = deployed.execute(model, SAMPLES, threads=threads, warmup=1, repeats=2)

    for output, wanted in zip(outputs, np.load(deployed.path(f"{model}.npy")), strict=True):
        np.testing.assert_allclose(np.frombuffer(output, np.float32), wanted, rtol=1e-4, atol=1e-5)
    assert (done.samples, done.threads, len(done.warmup), len(done.runs)) == (3, threads, 1, 2)
    assert done.first.ns > 0
    assert done.load_ns > 0
    assert done.peak_rss_bytes is not None
    assert done.peak_rss_bytes > 1 << 20
    assert done.inputs[0].dtype == "float32"
    assert done.inputs[0].shape == SHAPE


def test_repeating_the_first_sample_does_not_change_its_output(deployed: Deployed) -> None:
    inputs = SAMPLES[:2]
    for model in ("portable.pte", "fp32.onnx"):
        once = deployed.execute(model, inputs)[1]
        often = deployed.execute(model, inputs, warmup=3, repeats=20)[1]
        assert once == often


@pytest.mark.parametrize("model", ["xnnpack.pte", "fp32.onnx"])
def test_samples_that_arrive_faster_than_they_are_done_wait_and_the_wait_is_in_the_latency(
    deployed: Deployed, model: str
) -> None:
    often, output = deployed.execute(model, SAMPLES[:1], repeats=100, pace=Pace(rate_hz=1e6, arrivals="even"))
    seldom, same_output = deployed.execute(model, SAMPLES[:1], repeats=20, pace=Pace(rate_hz=100.0, arrivals="even"))

    assert output == same_output
    latencies = [run.latency_ns or 0 for run in often.runs]
    assert latencies[-1] - latencies[0] > 0.5 * sum(run.ns for run in often.runs[1:])
    assert all((run.latency_ns or 0) >= run.ns for run in (*often.runs, *seldom.runs))
    spans = [(done.runs[-1].at_ns or 0) - (done.runs[0].at_ns or 0) for done in (often, seldom)]
    assert spans[1] > 19 * 9_000_000


@pytest.mark.parametrize("model", ["xnnpack.pte", "fp32.onnx"])
def test_a_start_and_the_memory_of_loading_are_told(deployed: Deployed, model: str) -> None:
    done, _ = deployed.execute(model, SAMPLES[:1], repeats=3, memory_every=2)

    assert (done.ready_ns or 0) > done.load_ns
    assert (done.load_rss_bytes or 0) >= (done.load_anonymous_bytes or 0) > 0
    assert [one.runs for one in done.resources] == [2, 4]
    assert all((one.rss_bytes or 0) > (one.anonymous_bytes or 0) > 0 for one in done.resources)
    assert not done.test_faults


@pytest.mark.parametrize("model", ["xnnpack.pte", "fp32.onnx"])
def test_a_runner_stays_on_the_cores_it_was_given_and_says_so_if_it_cannot(deployed: Deployed, model: str) -> None:
    last = max(os.sched_getaffinity(0))
    pinned, _ = deployed.execute(model, SAMPLES[:1], threads=2, cpus=(last,))
    elsewhere, output = deployed.execute(model, SAMPLES[:1], cpus=(1023,))

    assert (pinned.cpus, pinned.not_pinned) == ((last,), "")
    assert set(elsewhere.cpus) == os.sched_getaffinity(0)
    assert elsewhere.not_pinned
    assert output


def test_planned_memory_is_told_by_the_runtime_that_plans(deployed: Deployed) -> None:
    inputs = SAMPLES[:1]

    assert (deployed.execute("portable.pte", inputs)[0].planned_bytes or 0) > 8192
    assert deployed.execute("fp32.onnx", inputs)[0].planned_bytes is None


@pytest.mark.parametrize(("model", "outputs"), [("rows.pte", 3), ("open.onnx", 8 * 16 * 16)])
def test_a_size_that_the_model_leaves_open_is_chosen_by_the_caller(
    deployed: Deployed, model: str, outputs: int
) -> None:
    shape = (3, 4) if model == "rows.pte" else (3, *SHAPE[1:])
    sample = np.ones(shape, np.float32)

    done, (output,) = deployed.execute(model, [sample], shapes=[shape])

    assert done.inputs[0].shape == shape
    assert len(output) == 4 * 3 * outputs


@pytest.mark.parametrize(
    ("model", "changes", "code"),
    [
        ("open.onnx", {}, "wrong_size"),
        ("open.onnx", {"shapes": [(1, 2, 16, 16)]}, "wrong_size"),
        ("rows.pte", {"shapes": [(9, 4)]}, "wrong_size"),
        ("rows.pte", {"shapes": [(4,)]}, "wrong_size"),
        ("fp32.onnx", {"shapes": [(1,), (1,)]}, "wrong_size"),
        ("absent.pte", {}, "cannot_load"),
        ("absent.onnx", {}, "cannot_load"),
        ("fp32.onnx", {"executable": "edgeq-runner-executorch"}, "cannot_load"),
        ("portable.pte", {"executable": "edgeq-runner-onnxruntime"}, "cannot_load"),
        ("fp32.onnx", {"threads": 0}, "bad_arguments"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    deployed: Deployed, model: str, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(RunnerFailedError) as caught:
        deployed.execute(model, SAMPLES[:1], **changes)

    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize("model", ["xnnpack.pte", "fp32.onnx"])
def test_samples_of_another_size_are_refused_before_anything_runs(deployed: Deployed, model: str) -> None:
    with pytest.raises(RunnerFailedError, match="3072 bytes, not 3071") as caught:
        deployed.execute(model, [b"x" * 3071])

    assert caught.value.code == "wrong_size"


@pytest.mark.parametrize("model", ["xnnpack.pte", "fp32.onnx"])
def test_a_stream_that_ends_inside_a_sample_is_told(deployed: Deployed, model: str) -> None:
    sample = SAMPLES[0].tobytes()

    with pytest.raises(RunnerFailedError, match="1000 of the 3072 bytes of sample 1") as caught:
        deployed.execute(model, [sample, sample[:1000]])

    assert caught.value.code == "short_input"


def test_an_operator_without_a_kernel_is_named(deployed: Deployed) -> None:
    data = deployed.path("portable.pte").read_bytes()
    deployed.path("other.pte").write_bytes(data.replace(b"aten::_softmax", b"aten::_hardmax"))

    with pytest.raises(RunnerFailedError, match=r"aten::_hardmax\.out") as caught:
        deployed.execute("other.pte", SAMPLES[:1])
    assert caught.value.code == "missing_operator"

    with pytest.raises(RunnerFailedError, match="Frobnicate") as caught:
        deployed.execute("unknown.onnx", SAMPLES[:1])
    assert caught.value.code == "missing_operator"


def test_a_backend_that_the_runner_has_not_is_named(deployed: Deployed) -> None:
    data = deployed.path("xnnpack.pte").read_bytes()
    deployed.path("other.pte").write_bytes(data.replace(b"XnnpackBackend", b"VulkanBackends"))

    with pytest.raises(RunnerFailedError, match="VulkanBackends") as caught:
        deployed.execute("other.pte", SAMPLES[:1])
    assert caught.value.code == "missing_backend"


@pytest.mark.parametrize("model", ["xnnpack.pte", "portable.pte", "fp32.onnx"])
def test_a_damaged_model_ends_in_a_refusal_and_never_in_silence(deployed: Deployed, model: str) -> None:
    whole = deployed.path(model).read_bytes()
    inputs = SAMPLES[:1]
    rng = random.Random(7)  # noqa: S311  # damage, not secrets
    refused = 0
    for round_ in range(DAMAGED):
        data = bytearray(whole)
        if round_ % 5 == 0:
            del data[rng.randrange(len(data)) :]
        else:
            data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        deployed.path(f"damaged-{model}").write_bytes(data)
        try:
            deployed.execute(f"damaged-{model}", inputs, timeout_s=20)
        except (RunnerFailedError, RunnerCrashedError) as error:
            assert error.message  # noqa: PT017  # both outcomes are right: some bytes are weights
            assert error.hint  # noqa: PT017
            refused += 1
    assert refused >= DAMAGED // 5


@pytest.mark.parametrize("model", ["xnnpack.pte", "fp32.onnx"])
def test_an_empty_model_and_a_folder_are_refused(deployed: Deployed, model: str) -> None:
    suffix = Path(model).suffix
    deployed.path(f"empty{suffix}").write_bytes(b"")
    deployed.path(f"folder{suffix}").mkdir()

    for name in (f"empty{suffix}", f"folder{suffix}"):
        with pytest.raises(RunnerFailedError) as caught:
            deployed.execute(name, SAMPLES[:1])
        assert caught.value.code == "cannot_load"


def test_memory_does_not_grow_with_the_number_of_samples(deployed: Deployed) -> None:
    sample = SAMPLES[0].tobytes()
    for model in ("xnnpack.pte", "fp32.onnx"):
        few = deployed.execute(model, (sample for _ in range(100)))[0].peak_rss_bytes
        many, outputs = deployed.execute(model, (sample for _ in range(5000)))
        assert len(outputs) == 5000
        assert many.peak_rss_bytes is not None
        assert few is not None
        assert many.peak_rss_bytes - few < 2 << 20


def test_hashes_are_those_of_the_files(deployed: Deployed) -> None:
    deployed.path("odd name;$(x)").write_bytes(b"x" * 1_000_003)
    names = ["fp32.onnx", "odd name;$(x)", "absent", "edgeq-runner-executorch"]

    for engine in ("executorch", "onnxruntime"):
        hashes = hash_files(deployed.transport, folder="d", executable=f"edgeq-runner-{engine}", names=names)
        assert hashes == {
            name: hashlib.sha256(deployed.path(name).read_bytes()).hexdigest() for name in names if name != "absent"
        }


def test_nothing_but_events_is_on_stdout_and_the_exit_status_is_the_codes(deployed: Deployed) -> None:
    program = deployed.path("edgeq-runner-executorch")
    for argv, status in ((["hello"], 0), (["--version"], 0), ([], 64), (["run"], 64), (["run", "--model", "x"], 65)):
        done = subprocess.run([program, *argv], capture_output=True, stdin=subprocess.DEVNULL, check=False)
        lines = done.stdout.decode().splitlines()
        assert done.returncode == status
        assert lines[0].startswith('{"event":"hello","protocol":1,"engine":"executorch"')
        assert lines[-1].startswith('{"event":"done"' if status == 0 else '{"event":"error"')
        assert len(lines) == 2


def test_a_reader_that_goes_away_ends_the_runner(deployed: Deployed) -> None:
    with subprocess.Popen(
        [deployed.path("edgeq-runner-onnxruntime"), "run", "--model", deployed.path("fp32.onnx")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        try:
            for _ in range(1000):
                process.stdin.write(SAMPLES[0].tobytes())
        except BrokenPipeError:
            pass
        assert process.wait(timeout=20) == 74


def test_the_libraries_beside_the_runner_are_the_ones_that_count(deployed: Deployed, tmp_path: Path) -> None:
    for name in ("libexecutorch.so", "libonnxruntime.so.1"):
        (tmp_path / name).write_text("not a library")
    environment = {"LD_LIBRARY_PATH": str(tmp_path)}

    for model in ("xnnpack.pte", "fp32.onnx"):
        engine = "onnxruntime" if model.endswith("onnx") else "executorch"
        done = subprocess.run(
            [deployed.path(f"edgeq-runner-{engine}"), "run", "--model", deployed.path(model)],
            input=SAMPLES[0].tobytes(),
            env=environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_a_missing_library_is_explained(deployed: Deployed) -> None:
    lonely = deployed.root / "lonely"
    lonely.mkdir()
    for engine in ("executorch", "onnxruntime"):
        shutil.copy2(deployed.path(f"edgeq-runner-{engine}"), lonely)
        with pytest.raises(DeviceError) as caught:
            deployed.execute("../d/xnnpack.pte", SAMPLES[:1], folder="lonely", executable=f"edgeq-runner-{engine}")
        assert "lib" in caught.value.message + caught.value.detail + caught.value.hint


@pytest.mark.parametrize("engine", ["executorch", "onnxruntime"])
def test_an_emulated_board_gives_the_same_outputs_and_counts_instructions(deployed: Deployed, engine: Engine) -> None:
    model = "int8.pte" if engine == "executorch" else "fp32.onnx"
    built = bundle(engine, "aarch64-linux-gnu", progress=Silent())
    outputs: list[bytes] = []
    try:
        with open_device("board", load_target("rpi4"), progress=Silent()) as transport:
            for name, path in built.files.items():
                transport.put(path, f"runner-test/{name}", mode=0o755)
            transport.put(deployed.path(model), f"runner-test/{model}")
            done = execute(
                transport,
                folder="runner-test",
                executable=built.executable,
                model=model,
                threads=1,
                warmup=2,
                repeats=5,
                count_instructions=True,
                samples=[sample.tobytes() for sample in SAMPLES],
                on_outputs=lambda _index, data: outputs.append(data),
                timeout_s=60,
            )
    except MissingToolError:
        if "CI" in os.environ:
            raise
        pytest.skip("QEMU is not installed")

    for output, wanted in zip(outputs, np.load(deployed.path(f"{model}.npy")), strict=True):
        np.testing.assert_allclose(np.frombuffer(output, np.float32), wanted, rtol=1e-3, atol=0.02)
    counts = [run.instructions or 0 for run in done.runs]
    assert min(counts) > 10_000
    assert max(counts) - min(counts) <= 0.01 * max(counts)


def test_an_emulated_board_hashes_files_of_every_length_with_its_own_instructions(
    deployed: Deployed, tmp_path: Path
) -> None:
    del deployed  # the machine has what builds a runner
    built = bundle("executorch", "aarch64-linux-gnu", progress=Silent())
    contents = {f"{size}.bin": random.Random(size).randbytes(size) for size in (0, 1, 55, 56, 63, 64, 65, 128, 200_003)}  # noqa: S311  # no secrets
    try:
        with open_device("board", load_target("rpi4"), progress=Silent()) as transport:
            assert b"sha2" in transport.run(["cat", "/proc/cpuinfo"]).stdout
            for name, path in built.files.items():
                transport.put(path, f"hash-test/{name}", mode=0o755)
            for name, content in contents.items():
                (tmp_path / name).write_bytes(content)
                transport.put(tmp_path / name, f"hash-test/{name}")
            seen = hash_files(transport, folder="hash-test", executable=built.executable, names=list(contents))
    except MissingToolError:
        if "CI" in os.environ:
            raise
        pytest.skip("QEMU is not installed")
    assert seen == {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def test_a_device_that_runs_out_of_memory_refuses_and_does_not_crash(deployed: Deployed) -> None:
    codes = set()
    for megabytes in (4, 6, 8, 12, 16, 1024):
        starved = deployed.path("starved-onnxruntime")
        starved.write_text(
            f'#!/bin/sh\nexec prlimit --data={megabytes << 20} "${{0%/*}}/edgeq-runner-onnxruntime" "$@"\n'
        )
        starved.chmod(0o755)
        try:
            deployed.execute("fp32.onnx", SAMPLES[:1], executable=starved.name)
        except RunnerFailedError as error:
            codes.add(error.code)
        else:
            codes.add("done")
    assert codes >= {"out_of_memory", "done"}
    assert codes <= {"out_of_memory", "cannot_load", "done"}


@pytest.mark.parametrize("engine", ["executorch", "onnxruntime"])
def test_no_command_line_and_no_input_makes_a_runner_crash(deployed: Deployed, engine: str) -> None:
    model = "xnnpack.pte" if engine == "executorch" else "fp32.onnx"
    rng = random.Random(11)  # noqa: S311  # what a stranger might say, not secrets
    numbers = [
        "0",
        "1",
        "2",
        "-1",
        "256",
        "257",
        "18446744073709551615",
        "99999999999999999999",
        "1e3",
        "0x10",
        "",
        " 1",
    ]
    shapes = [
        "1x3x16x16",
        "scalar",
        "1x3x16",
        "0x3x16x16",
        "9223372036854775807x2",
        "1x3x16x16,1",
        "x",
        ",",
        "1x-3x16x16",
    ]
    paces = [
        ("--rate", ["1000000", "0", "-1", "1e9", "nan", ""]),
        ("--pause-ms", ["0", "1", "-1", "99999999999"]),
        ("--arrivals", ["even", "poisson", "odd"]),
        ("--seed", numbers),
        ("--most-ms", ["0", "5", "-1", "86400001"]),
        ("--cpus", ["0", "0-1", "1023", "1-0", "0,,1", "999999999999"]),
        ("--memory-every", ["1", "0", "3", "-1"]),
    ]
    strange = ["--", "-", "--model", "--threads=2", "hash", "ü", "%n%s", "a" * 5000, "--profile", "--instructions"]
    for _ in range(150):
        words = ["run", "--model", f"d/{model}"]
        for _ in range(rng.randrange(4)):
            option, values = rng.choice(
                [
                    ("--threads", numbers),
                    ("--repeats", numbers),
                    ("--sample-bytes", numbers),
                    ("--shapes", shapes),
                    *paces,
                ]
            )
            words += [option, rng.choice(values)]
        if rng.random() < 0.3:
            words.insert(rng.randrange(len(words) + 1), rng.choice(strange))
        size = SAMPLES[0].nbytes
        data = rng.randbytes(rng.choice([0, 1, size - 1, size, size + 1, 3 * size]))
        done = deployed.transport.run([f"d/edgeq-runner-{engine}", *words], stdin=(data,), timeout_s=30)
        assert done.status == 0 or 64 <= done.status <= 74, (words, done)
        assert b'"crashed"' not in done.stdout, words

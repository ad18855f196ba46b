"""docker/ with the real tools: hadolint, shellcheck, a reader of compose files, real chroots of a small Dockerfile."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import compose_spec
import pytest
import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
CHROOT = ROOT / "docker/chroot"

TOY = """
ARG DEBIAN=bookworm-20250520-slim
FROM debian:${DEBIAN} AS debian
ARG DEBIAN_SNAPSHOT=
COPY docker/debian-snapshot.sh /usr/local/sbin/debian-snapshot
RUN debian-snapshot && useradd --uid 1000 --create-home edgeq

FROM debian AS made
WORKDIR /made
RUN pwd > here && echo content > file

FROM debian AS image
COPY --from=made /made /workspace/made
COPY --chown=edgeq examples/fashion_mnist/edgeq.toml /workspace/
WORKDIR /workspace
RUN install -d -m 700 -o edgeq /share && ln -s /proc/self/status status
ENV NAME=value PATH=/opt/none:$PATH
USER 1000
HEALTHCHECK CMD ["test", "-s", "/share/said"]
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["id -u; pwd; echo $NAME $PATH $HOME; cat made/here; stat -c %U edgeq.toml; ls made; \\
    ls /proc | grep -c ^[0-9]"]
"""

# Nobody else sleeps so, which finds the processes again.
SLEEP = f"sleep 6{os.getpid()}.25"

FLOW = """
services:
  server:
    build: {context: ROOT, dockerfile: FILE, target: image}
    image: toy
    cap_drop: [ALL]
    command: ["trap 'exit 0' TERM; echo hello > /share/said; SLEEP & wait"]
    volumes: [share:/share]
  client:
    image: toy
    environment: {NAME: other}
    command: ["cat /share/said; echo $NAME > /tmp/left; getent hosts server; ! echo x > /share/new"]
    depends_on: {server: {condition: service_healthy}}
    volumes: ["share:/share:ro"]
  after:
    image: toy
    command: ["test ! -e /tmp/left"]
    depends_on: {client: {condition: service_completed_successfully}}
"""


def _tool(name: str) -> str:
    found = shutil.which(name, path=f"{BIN}:{os.environ['PATH']}")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed")
    return found


def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    argv = [_tool("hadolint"), "-c", ROOT / "docker/.hadolint.yaml", ROOT / "docker/Dockerfile"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_have_something_to_say(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN cd /x && apt install y\n")
    argv = [_tool("hadolint"), "-c", ROOT / "docker/.hadolint.yaml", tmp_path / "Dockerfile"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DL3006" in done.stdout


def test_shellcheck_has_nothing_to_say_of_the_scripts() -> None:
    scripts = sorted((ROOT / "docker").glob("*.sh"))
    assert len(scripts) == 2
    done = subprocess.run([_tool("shellcheck"), *scripts], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_compose_file_is_one() -> None:
    document = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
    compose = compose_spec.PyCompose.from_json(json.dumps(document))
    assert list(compose.services or {}) == ["board", "build", "deploy", "bench", "report"]
    document["services"]["deploy"]["depends_on"]["build"]["condition"] = "service_helthy"
    with pytest.raises(ValueError, match="service_helthy"):
        compose_spec.PyCompose.from_json(json.dumps(document))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the images of TOY, really made."""
    if os.geteuid():
        pytest.skip("a chroot takes root")
    _tool("mmdebstrap")
    folder = tmp_path_factory.mktemp("chroot")
    (folder / "Toy").write_text(TOY)
    done = _chroot("build", folder / "Toy", "--context", ROOT, "--into", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "=== stage image: " in done.stdout
    return folder


def _chroot(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, CHROOT, *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def test_an_image_runs_as_its_user_and_sees_only_itself(made: Path) -> None:
    done = _chroot("run", made / "images/Toy/image")
    assert done.returncode == 0, done.stderr
    uid, workdir, env, there, owner, *listed, processes = done.stdout.splitlines()
    assert (uid, workdir, there, owner) == ("1000", "/workspace", "/made", "edgeq")
    assert env == "value /opt/none:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /home/edgeq"
    assert listed == ["file", "here"]
    assert int(processes) <= 4


def test_what_a_program_writes_is_not_in_the_image_afterwards(made: Path) -> None:
    done = _chroot("run", made / "images/Toy/image", "--", "/bin/sh", "-c", "echo x > /tmp/new; cat /tmp/new; exit 7")
    assert (done.returncode, done.stdout) == (7, "x\n")
    assert not (made / "images/Toy/image/tmp/new").exists()


def test_what_this_machine_lent_is_not_in_the_image(made: Path) -> None:
    root = made / "images/Toy/image"
    assert list((root / "dev").iterdir()) == []
    assert list((root / "proc").iterdir()) == []
    assert not (root / "run/host-authorities.crt").exists()


def test_services_wait_for_health_share_volumes_and_leave_nothing_running(made: Path) -> None:
    flow = FLOW.replace("ROOT", str(ROOT)).replace("FILE", str(made / "Toy")).replace("SLEEP", SLEEP)
    (made / "compose.yaml").write_text(flow)
    done = _chroot("flow", made / "compose.yaml", "--into", made, "--no-build")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not done in a chroot: cap_drop: ['ALL']" in done.stdout
    assert "hello\n127.0.0.1" in done.stdout
    assert "=== service server stopped, status 0" in done.stdout
    assert _inside() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_or_killed_run_leaves_no_process(made: Path, number: signal.Signals) -> None:
    argv = [sys.executable, CHROOT, "run", made / "images/Toy/image", "--", "/bin/sh", "-c", f"echo up; {SLEEP}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        assert len(_inside()) > 0
        running.send_signal(number)
        assert running.wait() == (130 if number == signal.SIGINT else -signal.SIGKILL)
    deadline = time.monotonic() + 30
    while _inside():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _inside() -> list[str]:
    """The processes of the toy's containers: those that have one of its own words among their arguments."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            words = (entry / "cmdline").read_bytes().decode(errors="replace")
            if SLEEP in words and "docker/chroot" not in words:
                found.append(words)
    return found


def test_a_step_that_fails_ends_the_build_and_names_its_line(made: Path) -> None:
    (made / "Bad").write_text("FROM scratch AS a\nFROM debian:bookworm-20250520-slim AS b\nRUN exit 3\n")
    done = _chroot("build", made / "Bad", "--into", made)
    assert done.returncode == 1
    assert done.stderr.endswith("Bad:3: RUN ended with status 3\n")

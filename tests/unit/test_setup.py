"""scripts/setup.sh on machines made of fakes: what it looks for, what it asks, what it leaves alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ("pyproject.toml", "constraints.txt", "examples/requirements.txt", "scripts/ethos-u.txt")
ORDINARY_TOOLS = (
    *("awk", "bash", "cat", "cut", "dirname", "env", "flock", "grep", "mkdir", "mv", "readlink", "rm", "sed"),
    *("sha256sum", "tr"),
)
ALL = (
    *("make", "qemu-system-arm", "zstd", "debian-archive-keyring", "openssh-client", "cmake", "g++"),
    *("g++-aarch64-linux-gnu", "g++-arm-linux-gnueabihf", "dataset-fashion-mnist"),
)

# Every fake writes its name and arguments to the log. The installed packages are the lines of a file.
FAKES = {
    "dpkg-query": """
for package in "${@:4}"; do
    if grep -qx "$package" "$MACHINE/installed"; then echo "installed $package"; else absent=1; fi
done
exit "${absent:-0}"
""",
    "apt-cache": '[ -e "$MACHINE/lists" ]',
    "apt-get": """
echo "apt-get $*" >>"$MACHINE/log"
if [ "$1" = update ]; then touch "$MACHINE/lists"; exit; fi
[ -e "$MACHINE/lists" ] || exit 100
while [ "$1" != --no-install-recommends ]; do shift; done
printf '%s\\n' "${@:2}" >>"$MACHINE/installed"
""",
    "sudo": """
echo "sudo $*" >>"$MACHINE/log"
[ -e "$MACHINE/password" ] && exit 1
[ "$1" != -n ] || shift
"$@"
""",
    "id": 'cat "$MACHINE/uid"',
    "true": "",
    # Its copy in a virtual environment is this script again.
    "python3": """
case "$*" in
    *version_info\\ *) [ ! -e "$MACHINE/old-python" ] ;;
    *ensurepip*) [ ! -e "$MACHINE/no-ensurepip" ] ;;
    *python%d*) echo python3.11-venv ;;
    --version) echo "Python 3.11.2" ;;
    -VV) echo "Python 3.11.2 (fake)" ;;
    "-m venv --clear "*)
        echo "venv" >>"$MACHINE/log"
        rm -rf "$4"; mkdir -p "$4/bin"
        cat "$0" >"$4/bin/python"
        echo "#!$4/bin/python" >"$4/bin/pip"
        chmod +x "$4/bin/python" ;;
    "-m pip --version") ;;
    "-m pip "*)
        echo "pip ${*:4}" >>"$MACHINE/log"
        [ ! -e "$MACHINE/pip-fails" ] || exit 1
        case "$*" in *" -e "*) echo >"${0%/python}/edgeq"; chmod +x "${0%/python}/edgeq" ;; esac ;;
    *) echo "unexpected: $*" >&2; exit 99 ;;
esac
""",
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A checkout, and a PATH that holds fakes and a few ordinary tools and nothing else."""

    folder: Path
    checkout: Path

    def has(self, *packages: str) -> None:
        (self.folder / "installed").write_text("".join(f"{name}\n" for name in packages))

    def is_so(self, name: str, text: str = "") -> None:
        (self.folder / name).write_text(text)

    def log(self) -> list[str]:
        path = self.folder / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.checkout / "scripts" / "setup.sh", *arguments],
            env={"PATH": str(self.folder / "bin"), "MACHINE": str(self.folder), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine of a user who is root, with everything but the Python environment, and package lists."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in (*ORDINARY_TOOLS, "chmod", "touch"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    for name, body in FAKES.items():
        (tools / name).write_text(f"#!{shutil.which('bash')}\n{body}")
        (tools / name).chmod(0o755)
    checkout = tmp_path / "checkout"
    for name in ("scripts/setup.sh", *REQUIREMENTS):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    made = Machine(folder=tmp_path, checkout=checkout)
    made.has(*ALL)
    made.is_so("uid", "0")
    made.is_so("lists")
    return made


def test_a_check_names_each_missing_package_and_who_needs_it_and_changes_nothing(machine: Machine) -> None:
    machine.has("make", "zstd")
    before = sorted(machine.checkout.rglob("*"))
    done = machine.run("--check")
    assert done.returncode == 1
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        name for name in ALL if name not in {"make", "zstd"}
    ]
    assert "for the emulated boards" in done.stdout
    assert ".venv is missing or out of date" in done.stderr
    assert machine.log() == []
    assert sorted(machine.checkout.rglob("*")) == before


def test_a_check_is_silent_where_nothing_is_missing(machine: Machine) -> None:
    assert machine.run().returncode == 0
    machine.log()
    done = machine.run("--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_root_installs_all_missing_packages_at_once_and_without_sudo(machine: Machine) -> None:
    machine.has(*(name for name in ALL if name not in {"cmake", "zstd"}))
    done = machine.run()
    assert done.returncode == 0, done.stderr
    installs = [line for line in machine.log() if line.startswith(("apt-get", "sudo"))]
    assert len(installs) == 1
    assert installs[0].endswith("install -y --no-install-recommends zstd cmake")
    assert "these packages are missing" in done.stderr


def test_a_user_with_sudo_is_told_what_is_installed_and_why_before_it_happens(machine: Machine) -> None:
    machine.is_so("uid", "1000")
    machine.has(*(name for name in ALL if name != "zstd"))
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert "zstd                     for unpacking the boards' Debian packages" in done.stderr
    assert "sudo may ask for your password" in done.stderr
    assert any(line.startswith("sudo env DEBIAN_FRONTEND=noninteractive apt-get") for line in machine.log())


def test_sudo_is_not_touched_when_no_package_is_missing(machine: Machine) -> None:
    machine.is_so("uid", "1000")
    assert machine.run().returncode == 0
    assert not [line for line in machine.log() if line.startswith(("sudo", "apt-get"))]


@pytest.mark.parametrize("why", ["there is no sudo", "sudo cannot ask"])
def test_without_a_way_to_root_the_line_to_run_is_said_and_nothing_is_tried(machine: Machine, why: str) -> None:
    machine.is_so("uid", "1000")
    machine.has(*(name for name in ALL if name != "cmake"))
    if why == "there is no sudo":
        (machine.folder / "bin" / "sudo").unlink()
    else:
        machine.is_so("password")
    done = machine.run()
    assert done.returncode == 1
    assert "sudo apt-get update && sudo apt-get install -y --no-install-recommends cmake" in done.stderr
    assert not [line for line in machine.log() if "apt-get" in line]


def test_package_lists_are_fetched_only_when_they_do_not_know_a_package(machine: Machine) -> None:
    machine.has()
    (machine.folder / "lists").unlink()
    assert machine.run().returncode == 0
    fetched = [line for line in machine.log() if line.startswith("apt-get")]
    assert fetched[0] == "apt-get update"
    assert len(fetched) == 2

    machine.has()
    assert machine.run().returncode == 0
    assert "apt-get update" not in machine.log()


@pytest.mark.parametrize("server", ["openssh-server", "postgresql"])
def test_the_tests_need_servers_of_their_own_and_nothing_else_does(machine: Machine, server: str) -> None:
    assert server not in machine.run("--check").stdout
    assert server in machine.run("--check", "--tests").stdout


def test_the_tests_need_npm_and_take_the_one_that_is_there_whoever_brought_it(machine: Machine) -> None:
    asked = re.compile(r"^package npm ", re.MULTILINE)
    assert not asked.search(machine.run("--check").stdout)
    assert asked.search(machine.run("--check", "--tests").stdout)
    npm = machine.folder / "bin" / "npm"
    npm.write_text("#!/bin/sh\n")
    npm.chmod(0o755)
    assert not asked.search(machine.run("--check", "--tests").stdout)


def test_torch_comes_first_with_its_pin_then_edgeq_then_the_examples(machine: Machine) -> None:
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert machine.log() == [
        "venv",
        "pip install torch==2.13.0 -c constraints.txt",
        "pip install -e .[dev] -c constraints.txt",
        "pip install --no-deps -r examples/requirements.txt -r scripts/ethos-u.txt",
    ]


def test_an_index_for_torch_is_passed_on_for_torch_alone(machine: Machine) -> None:
    machine.run(EDGEQ_TORCH_INDEX="https://cpu.example/simple")
    with_it = [line for line in machine.log() if "cpu.example" in line]
    assert with_it == ["pip install torch==2.13.0 -c constraints.txt --extra-index-url https://cpu.example/simple"]


def test_a_second_run_does_nothing(machine: Machine) -> None:
    assert machine.run().returncode == 0
    machine.log()
    done = machine.run()
    assert (done.returncode, done.stdout, done.stderr, machine.log()) == (0, "", "", [])


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_changed_requirements_are_installed_into_the_same_environment(machine: Machine, name: str) -> None:
    machine.run()
    machine.log()
    with (machine.checkout / name).open("a") as file:
        file.write("\n")
    assert machine.run().returncode == 0
    log = machine.log()
    assert "venv" not in log
    assert len(log) == 3


def test_a_moved_checkout_gets_an_environment_of_its_own(machine: Machine) -> None:
    machine.run()
    machine.log()
    moved = machine.checkout.rename(machine.folder / "elsewhere")
    assert Machine(folder=machine.folder, checkout=moved).run().returncode == 0
    assert "venv" in machine.log()


def test_a_run_that_pip_broke_off_is_no_finished_one_and_the_next_goes_on(machine: Machine) -> None:
    machine.is_so("pip-fails")
    done = machine.run()
    assert done.returncode == 1
    assert "run the same command again to go on" in done.stderr
    assert machine.run("--check").returncode == 1
    (machine.folder / "pip-fails").unlink()
    machine.log()
    assert machine.run().returncode == 0
    assert "venv" not in machine.log()
    assert machine.run("--check").returncode == 0


def test_a_python_that_is_too_old_is_said(machine: Machine) -> None:
    machine.is_so("old-python")
    done = machine.run(EDGEQ_PYTHON="python3")
    assert done.returncode == 1
    assert "EDGEQ_PYTHON is python3, which is no Python 3.11 or newer" in done.stderr


def test_debians_python_without_ensurepip_gets_its_package(machine: Machine) -> None:
    machine.is_so("no-ensurepip")
    behind_the_link = machine.folder / "bin" / "readlink"
    behind_the_link.unlink()
    behind_the_link.write_text(f"#!{shutil.which('bash')}\necho /usr/bin/python3.11\n")
    behind_the_link.chmod(0o755)
    done = machine.run("--check", EDGEQ_PYTHON="python3")
    assert done.returncode == 1
    assert "package python3.11-venv          for the environment in .venv" in done.stdout


def test_a_python_of_ones_own_without_ensurepip_is_said(machine: Machine) -> None:
    machine.is_so("no-ensurepip")
    done = machine.run(EDGEQ_PYTHON="python3")
    assert done.returncode == 1
    assert "lacks the modules venv and ensurepip" in done.stderr


def test_a_system_that_is_no_debian_is_told_what_to_install(machine: Machine) -> None:
    (machine.folder / "bin" / "dpkg-query").unlink()
    done = machine.run()
    assert done.returncode == 1
    assert "no Debian or Ubuntu" in done.stderr
    assert "qemu-system-arm" in done.stderr


def test_an_unknown_argument_is_refused(machine: Machine) -> None:
    done = machine.run("--test")
    assert done.returncode == 1
    assert "unknown argument --test" in done.stderr


def test_the_torch_pin_is_the_same_in_the_requirements_and_in_the_constraints() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch==")]
    assert len(pins) == 1
    assert f'"{pins[0]}"' in (ROOT / "pyproject.toml").read_text()


def test_the_script_can_be_run_as_it_lies_in_the_repository() -> None:
    assert os.access(ROOT / "scripts" / "setup.sh", os.X_OK)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize(
    ("target", "last_line"),
    [
        ("demo", ".venv/bin/edgeq run examples/efficientnet_lite0 --target rpi4"),
        ("test", ".venv/bin/pytest -n auto --maxprocesses 4 --dist loadfile"),
        ("lint", ".venv/bin/lint-imports"),
        ("bench", None),
    ],
)
def test_each_make_target_sets_up_first(target: str, last_line: str | None) -> None:
    lines = subprocess.run(
        ["make", "-n", target], cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert lines[0].split()[0] == "scripts/setup.sh"
    assert last_line in {None, lines[-1]}

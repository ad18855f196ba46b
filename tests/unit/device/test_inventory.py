from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from edgeq.device import board
from edgeq.device.inventory import (
    address_of,
    default_target,
    devices_file,
    devices_of,
    inventory,
    known_devices,
    open_device,
    require_device,
    store_root,
)
from edgeq.device.local import LocalTransport
from edgeq.errors import BadDeviceNameError, ConfigError, UnknownNameError, WhichBoardError
from edgeq.progress import Silent
from edgeq.testing import sample_target

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host balcony\n HostName 10.0.0.9\n")
    return tmp_path


def _write(text: str) -> None:
    devices_file().parent.mkdir(parents=True)
    devices_file().write_text(text)


def test_local_is_this_machine() -> None:
    with open_device("local", sample_target(), progress=Silent()) as device:
        assert isinstance(device, LocalTransport)
        assert device.run(["pwd"]).status == 0


@pytest.mark.parametrize(
    ("device", "user", "host", "port"),
    [
        ("ssh://rpi", None, "rpi", None),
        ("ssh://pi@rpi:2222", "pi", "rpi", 2222),
        ("ssh://pi@rpi.lan/", "pi", "rpi.lan", None),
        ("ssh://[::1]:22", None, "::1", 22),
        ("ssh://pi@[fe80::1%eth0]", "pi", "fe80::1%eth0", None),
        ("ssh://fe80::1", None, "fe80::1", None),
    ],
)
def test_addresses_are_taken_apart(device: str, user: str | None, host: str, port: int | None) -> None:
    address = address_of(device)
    assert (address.user, address.host, address.port) == (user, host, port)
    assert address.name == device


@pytest.mark.parametrize(
    "device", ["ssh://", "ssh://pi@", "ssh://a:0", "ssh://a:x", "ssh://[::1", "ssh://a/b", "ssh://-o"]
)
def test_an_address_that_is_none_is_an_error(device: str) -> None:
    with pytest.raises(BadDeviceNameError):
        address_of(device)


def test_an_alias_of_the_ssh_configuration_is_a_device() -> None:
    assert address_of("balcony").host == "balcony"


def test_a_table_of_devices_toml_is_a_device(home: Path) -> None:
    _write('[kitchen]\nhost = "10.0.0.7"\nuser = "pi"\nport = 2222\nkey = "~/keys/pi"\nroot = "/data/edgeq"\n')
    address = address_of("kitchen")
    assert (address.host, address.user, address.port, address.key_path) == ("10.0.0.7", "pi", 2222, home / "keys/pi")
    assert store_root("kitchen") == "/data/edgeq"
    assert store_root("balcony") == store_root("ssh://x") == store_root("local") == ".edgeq"
    assert known_devices()[:5] == ("local", "board", "adb", "kitchen", "balcony")


def test_a_misspelt_device_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError) as caught:
        address_of("balcny")
    assert caught.value.hint == "did you mean 'balcony'?"


def test_a_misspelt_key_of_devices_toml_is_an_error_with_a_suggestion() -> None:
    _write('[kitchen]\nhots = "10.0.0.7"\n')
    with pytest.raises(ConfigError, match=r"kitchen\.hots") as caught:
        address_of("kitchen")
    assert "host" in caught.value.hint


def test_a_name_that_means_something_else_cannot_be_given() -> None:
    _write('[board]\nhost = "10.0.0.7"\n')
    with pytest.raises(BadDeviceNameError):
        known_devices()


def test_several_devices_are_named_with_commas_or_by_a_group_each_once() -> None:
    _write(
        '[kitchen]\nhost = "10.0.0.7"\n[hall]\nhost = "10.0.0.8"\n'
        '[house]\ndevices = ["kitchen", "hall"]\n[all]\ndevices = ["house", "ssh://pi@attic"]\n'
    )
    assert devices_of("kitchen") == ("kitchen",)
    assert devices_of("hall, kitchen,hall") == ("hall", "kitchen")
    assert devices_of("all,kitchen") == ("kitchen", "hall", "ssh://pi@attic")
    with pytest.raises(BadDeviceNameError, match="group; name one of kitchen, hall"):
        address_of("house")


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("", ","),
        ('[a]\ndevices = ["b"]\n[b]\ndevices = ["a"]\n', "a"),
        ('[a]\nhost = "x"\ndevices = ["b"]\n', "a"),
        ('[a]\nuser = "pi"\n', "a"),
        ('["a,b"]\nhost = "x"\n', "a"),
        ('["board:rpi4"]\nhost = "x"\n', "a"),
    ],
    ids=["nothing", "a group in itself", "a host and devices", "neither", "a comma", "a board's name"],
)
def test_a_group_that_means_nothing_is_an_error(text: str, device: str) -> None:
    _write(text)
    with pytest.raises(BadDeviceNameError):
        devices_of(device)


def test_an_emulated_board_of_another_target_is_a_device_of_its_own() -> None:
    assert store_root("board:rpi3") == ".edgeq"
    assert default_target("board:rpi3") == "rpi3"
    assert default_target("kitchen") == default_target("local") == "host"
    with pytest.raises(UnknownNameError, match="rpi33"):
        require_device("board:rpi33", sample_target())


def test_the_inventory_says_the_way_to_every_name_without_going_there() -> None:
    _write(
        '[kitchen]\nhost = "10.0.0.7"\nuser = "pi"\nport = 2222\nroot = "/data/edgeq"\n'
        '[phone]\nhost = "adb://0123"\n[house]\ndevices = ["kitchen", "phone"]\n'
    )
    found = {one.name: one for one in inventory()}
    assert (found["kitchen"].way, found["kitchen"].what, found["kitchen"].root) == (
        "ssh", "pi@10.0.0.7:2222", "/data/edgeq",
    )  # fmt: skip
    assert (found["phone"].way, found["house"].way, found["house"].what) == ("adb", "group", "kitchen, phone")
    assert (found["balcony"].way, found["local"].way, found["board"].way) == ("ssh", "local", "board")


def test_without_one_running_board_it_is_told_which_could_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WhichBoardError, match="no emulated board is running"):
        default_target("board")
    boards = [SimpleNamespace(target="rpi3"), SimpleNamespace(target="rpi4")]
    monkeypatch.setattr(board, "running", lambda: boards)
    with pytest.raises(WhichBoardError, match="rpi3, rpi4") as caught:
        default_target("board")
    assert caught.value.hint == "name one of them: --device board:rpi3"


def test_a_command_of_one_device_says_so_where_several_are_named() -> None:
    with pytest.raises(BadDeviceNameError, match="several devices"):
        address_of("local,board")

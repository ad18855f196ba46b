from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from edgeq.device.health import HEALTH_SCRIPT, read_state, throttled_words
from edgeq.device.local import LocalTransport
from edgeq.records import BusyProcess, Clock, DeviceState
from edgeq.testing import FakeTransport

if TYPE_CHECKING:
    from pathlib import Path

PI_4_DEBIAN_12 = """now {now}
load 0.42 0.30 0.25 1/181 1234
MemAvailable:    3412345 kB
SwapFree:         102396 kB
zone cpu-thermal 48212
slowed 0
throttled 0x0
clock policy0 scaling_governor=ondemand scaling_cur_freq=600000 scaling_max_freq=1500000 cpuinfo_max_freq=1800000
self 900
sample
cpu  1000 0 500 90000 100 0 10 0 0 0
cpu0 250 0 125 22500 25 0 3 0 0 0
cpu1 250 0 125 22500 25 0 3 0 0 0
cpu2 250 0 125 22500 25 0 2 0 0 0
cpu3 250 0 125 22500 25 0 2 0 0 0
1 (systemd) S 0 1 1 0 -1 4194560 7 8 9 10 300 200 0 0 20 0 1 0 4 1 1
700 (sshd) S 1 700 700 0 -1 4194560 7 8 9 10 30 20 0 0 20 0 1 0 4 1 1
800 (motion (cam) 1) R 1 800 800 0 -1 4194560 7 8 9 10 5000 100 0 0 20 0 1 0 4 1 1
900 (sh) S 700 900 900 0 -1 4194560 7 8 9 10 1 1 0 0 20 0 1 0 4 1 1
901 (cat) R 900 900 900 0 -1 4194560 7 8 9 10 0 0 0 0 20 0 1 0 4 1 1
sample
cpu  1080 0 520 90300 100 0 10 0 0 0
cpu0 270 0 130 22575 25 0 3 0 0 0
cpu1 270 0 130 22575 25 0 3 0 0 0
cpu2 270 0 130 22575 25 0 2 0 0 0
cpu3 270 0 130 22575 25 0 2 0 0 0
1 (systemd) S 0 1 1 0 -1 4194560 7 8 9 10 302 200 0 0 20 0 1 0 4 1 1
700 (sshd) S 1 700 700 0 -1 4194560 7 8 9 10 50 30 0 0 20 0 1 0 4 1 1
800 (motion (cam) 1) R 1 800 800 0 -1 4194560 7 8 9 10 5050 110 0 0 20 0 1 0 4 1 1
900 (sh) S 700 900 900 0 -1 4194560 7 8 9 10 11 11 0 0 20 0 1 0 4 1 1
903 (cat) R 900 900 900 0 -1 4194560 7 8 9 10 0 0 0 0 20 0 1 0 4 1 1
"""


def _state(tmp_path: Path, health: str) -> DeviceState:
    return read_state(FakeTransport(tmp_path, health=health.replace("{now}", str(int(time.time())))))


def test_a_raspberry_pi_tells_everything(tmp_path: Path) -> None:
    state = _state(tmp_path, PI_4_DEBIAN_12)
    assert (state.celsius, state.throttled, state.throttled_bits) == (48.212, False, 0)
    assert state.clocks == (Clock(name="policy0", governor="ondemand", mhz=600, limit_mhz=1500, max_mhz=1800),)
    assert (state.available_bytes, state.swap_free_bytes) == (3412345 * 1024, 102396 * 1024)
    assert state.load == 0.42
    assert state.cpu_share == 0.25
    assert state.clock_skew_s == 0.0


def test_others_are_named_with_their_share_of_a_core_and_our_own_way_in_is_not(tmp_path: Path) -> None:
    # 60 of 400 ticks of four cores; sh and its sshd have used more than a twentieth as well.
    assert _state(tmp_path, PI_4_DEBIAN_12).busy == (BusyProcess(pid=800, name="motion (cam) 1", share=0.6),)


def test_a_process_that_took_over_a_number_is_not_charged_with_what_the_one_before_used(tmp_path: Path) -> None:
    first, second = PI_4_DEBIAN_12.rsplit("800 (motion (cam) 1) R", maxsplit=1)
    assert _state(tmp_path, f"{first}800 (new) R{second}").busy == ()


def test_a_name_that_would_move_the_cursor_is_harmless(tmp_path: Path) -> None:
    (one,) = _state(tmp_path, PI_4_DEBIAN_12.replace("motion (cam) 1", "x\x1b[2Jy")).busy
    assert one.name == "x[2Jy"


def test_what_a_small_board_does_not_say_is_none(tmp_path: Path) -> None:
    state = _state(tmp_path, "now \nload \nthrottled \nself 12\n")
    assert state == DeviceState()
    assert _state(tmp_path, "") == DeviceState()
    assert _state(
        tmp_path, "who knows\nclock\nzone\nslowed x\nload abc\nnow soon\nthrottled maybe\nsample\nsample\n"
    ) == (DeviceState(clocks=(Clock(name=""),)))


def test_the_hottest_zone_of_the_processor_counts(tmp_path: Path) -> None:
    assert _state(tmp_path, "zone cpu-thermal 61234\nzone gpu 99000\nzone soc_max 63000\n").celsius == 63.0
    assert _state(tmp_path, "zone acpitz 40000\n").celsius is None


@pytest.mark.parametrize(
    ("said", "throttled", "bits"),
    [("50000", False, 0x50000), ("50005", True, 0x50005), ("0x80008", True, 0x80008), ("", None, None)],
)
def test_the_firmware_of_a_raspberry_pi_is_understood(
    tmp_path: Path, said: str, throttled: bool | None, bits: int | None
) -> None:
    state = _state(tmp_path, f"throttled {said}\n")
    assert (state.throttled, state.throttled_bits) == (throttled, bits)


def test_any_board_whose_kernel_holds_its_cores_back_is_throttled(tmp_path: Path) -> None:
    assert _state(tmp_path, "slowed 0\nslowed 3\n").throttled is True
    assert _state(tmp_path, "slowed 0\n").throttled is False
    assert _state(tmp_path, "slowed 1\nthrottled 0x0\n").throttled is True


def test_the_bits_have_words() -> None:
    assert throttled_words(0x50005) == (["under-voltage", "throttled"], ["under-voltage", "throttled"])
    assert throttled_words(0xA0000) == ([], ["the frequency is capped", "at the soft temperature limit"])


@pytest.mark.parametrize(("off", "low", "high"), [(3600, 3590, 3600), (-3600, -3600, -3590)])
def test_a_clock_that_is_off_is_told_with_its_sign(tmp_path: Path, off: int, low: float, high: float) -> None:
    skew = _state(tmp_path, f"now {int(time.time()) + off}\n").clock_skew_s
    assert skew is not None
    assert low <= skew <= high


def test_the_script_finds_what_computes_on_this_machine() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            state = read_state(LocalTransport())
        finally:
            busy.kill()
    assert busy.pid in {one.pid for one in state.busy}
    assert state.cpu_share
    assert state.load is not None
    assert state.clock_skew_s == 0.0


def test_the_firmware_is_asked_through_vcgencmd_where_the_kernel_does_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vcgencmd").write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50005\n')
    (tmp_path / "vcgencmd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert read_state(LocalTransport(), watch_s=0).throttled_bits == 0x50005


def test_a_vcgencmd_that_may_not_ask_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vcgencmd").write_text("#!/bin/sh\necho 'VCHI initialization failed'\nexit 255\n")
    (tmp_path / "vcgencmd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert read_state(LocalTransport(), watch_s=0).throttled_bits is None


def test_nothing_is_watched_where_there_is_no_time_for_it() -> None:
    state = read_state(LocalTransport(), watch_s=0)
    assert (state.cpu_share, state.busy) == (None, ())
    assert state.available_bytes


@pytest.mark.parametrize("tool", ["sudo", "python", "[[", "awk", "ps "])
def test_a_small_userland_will_do(tool: str) -> None:
    assert tool not in HEALTH_SCRIPT

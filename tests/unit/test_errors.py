from __future__ import annotations

import inspect
import shlex
from pathlib import Path

import pytest

from edgeq import errors
from edgeq.errors import DeviceDiskFullError, NotDeployedError, NothingToRollBackError


def test_every_error_belongs_to_one_group_with_its_own_exit_code() -> None:
    groups = {errors.ConfigError: 2, errors.HostToolError: 3, errors.DeviceError: 4, errors.LimitError: 5}
    for group, code in groups.items():
        assert group.exit_code == code
    leaves = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.EdgeqError) and kind is not errors.EdgeqError
    ]
    for leaf in leaves:
        assert sum(issubclass(leaf, group) for group in groups) == 1, leaf


def test_an_unknown_name_comes_with_the_nearest_or_with_all() -> None:
    assert "rpi4" in errors.UnknownNameError("target", "rpi-4", ["rpi4", "host"]).hint
    assert errors.UnknownNameError("target", "zzz", ["rpi4", "host"]).hint == "known: host, rpi4"


@pytest.mark.parametrize("name", ["a b", "it's", "$(touch x)", "`x`", "a;b", "a\nb"])
def test_a_command_in_a_hint_may_be_copied_whatever_a_device_and_a_folder_are_called(name: str) -> None:
    for error in (
        NotDeployedError(Path(name), name),
        NothingToRollBackError(name, "m"),
        DeviceDiskFullError(name, "r"),
    ):
        command = error.hint.partition("edgeq ")[2].partition("`, or set")[0]
        assert shlex.split(command)[-2:] == ["--device", name]

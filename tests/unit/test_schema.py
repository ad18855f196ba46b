from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003  # pytest gives one

import pytest

from edgeq.errors import ConfigError
from edgeq.schema import from_data, from_json, load_toml, to_data, to_json


@dataclass(frozen=True, kw_only=True)
class Wheel:
    inches: int
    spokes: int = 32


@dataclass(frozen=True, kw_only=True)
class Bicycle:
    name: str
    wheels: tuple[Wheel, ...]
    prices: dict[str, float] = field(default_factory=dict)
    front: Wheel | None = None


WHERE = "bike.toml"


def test_a_record_survives_the_way_to_json_and_back() -> None:
    bicycle = Bicycle(name="red", wheels=(Wheel(inches=28), Wheel(inches=26)), prices={"eu": 1.5})
    assert from_json(Bicycle, to_json(bicycle), where=WHERE) == bicycle
    assert from_data(Bicycle, to_data(bicycle), where=WHERE) == bicycle


@pytest.mark.parametrize(
    ("data", "key", "near"),
    [
        ({"name": "x", "wheels": [], "wheel": 1}, "wheel", "wheels"),
        ({"name": "x", "wheels": [{"inch": 3}]}, "wheels[0].inch", "inches"),
        ({"name": "x", "wheels": [], "front": {"spoke": 3}}, "front.spoke", "spokes"),
    ],
)
def test_an_unknown_key_at_any_depth_is_refused_with_the_nearest(data: object, key: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_data(Bicycle, data, where=WHERE)
    assert caught.value.message == f"bike.toml: unknown key {key!r}"
    assert near in caught.value.hint


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"wheels": []}, "missing key `name`"),
        ({"name": 3, "wheels": []}, "name: expected `str`, got `int`"),
        ({"name": "x", "wheels": [{"inches": "26"}]}, "inches: expected `int`, got `str`"),
        ([], "expected `object`, got `array`"),
    ],
)
def test_a_missing_key_or_a_wrong_type_is_named(data: object, words: str) -> None:
    with pytest.raises(ConfigError, match=r"bike\.toml") as caught:
        from_data(Bicycle, data, where=WHERE)
    assert words.lower() in caught.value.message.lower()


def test_broken_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("name = \n")
    with pytest.raises(ConfigError, match="line 1"):
        load_toml(Bicycle, file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_toml(Bicycle, tmp_path / "none.toml")


def test_json_of_a_newer_edgeq_keeps_loading() -> None:
    assert from_json(Wheel, '{"inches": 28, "spokes": 20, "tubeless": true}', where="w") == Wheel(inches=28, spokes=20)


def test_damaged_json_is_refused() -> None:
    with pytest.raises(ConfigError, match="damaged"):
        from_json(Wheel, '{"inches": 2', where="w")

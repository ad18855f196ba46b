from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeq.records import Layer, LayerParity
from edgeq.stages.parity.layers import UnfaithfulError, search

if TYPE_CHECKING:
    from collections.abc import Sequence

LAYERS = [Layer(node=f"conv2d_{index}", op="Conv", module=f"features.{index}") for index in range(20)]


class Machine:
    """Computes every layer from ``wrong`` on otherwise, from ``other`` on with other bits.

    Of ``unfaithful`` layers, and of several at once unless ``whole``, a probe computes something else.
    """

    def __init__(self, wrong: int, *, other: int = 99, whole: bool = False, unfaithful: Sequence[int] = ()) -> None:
        self.wrong, self.other, self.whole, self.unfaithful = wrong, other, whole, unfaithful
        self.asked: list[list[int]] = []

    def __call__(self, indices: Sequence[int]) -> list[LayerParity]:
        self.asked.append(list(indices))
        if (len(indices) > 1 and not self.whole) or (len(indices) == 1 and indices[0] in self.unfaithful):
            raise UnfaithfulError("it is fused with what follows")
        return [
            LayerParity(
                layer=LAYERS[index],
                identical=index < min(self.other, self.wrong),
                diverges=index >= self.wrong,
                sqnr_db=None,
                largest_difference=None,
            )
            for index in indices
        ]


def test_one_probe_of_all_layers_is_enough_where_it_computes_the_same() -> None:
    machine = Machine(7, other=3, whole=True)
    found = search(LAYERS, machine, sample=4)
    assert (found.first_diverging, found.first_differing, found.sample) == ("conv2d_7", "conv2d_3", 4)
    assert len(found.layers) == 20
    assert len(machine.asked) == 1
    assert not found.notes
    assert not found.between


@pytest.mark.parametrize("wrong", range(20))
def test_bisection_finds_any_layer_with_few_probes(wrong: int) -> None:
    machine = Machine(wrong)
    found = search(LAYERS, machine, sample=None)
    assert found.first_diverging == f"conv2d_{wrong}"
    assert not found.between
    assert len(machine.asked) <= 1 + 5
    assert "by bisection" in found.notes[0]


@pytest.mark.parametrize("wrong", range(20))
def test_layers_that_cannot_be_probed_are_named_where_they_may_be_the_first(wrong: int) -> None:
    machine = Machine(wrong, unfaithful=(5, 6, 11))
    found = search(LAYERS, machine, sample=None)
    hidden = {5: 7, 6: 7, 11: 12}
    assert found.first_diverging == f"conv2d_{hidden.get(wrong, wrong)}"
    between = {layer.node for layer in found.between}
    if wrong in hidden:
        assert f"conv2d_{wrong}" in between
    assert between <= {"conv2d_5", "conv2d_6", "conv2d_11"}
    assert {one.layer.node for one in found.not_probed} <= {"conv2d_5", "conv2d_6", "conv2d_11"}


def test_where_no_layer_diverges_it_is_behind_all_of_them() -> None:
    found = search(LAYERS, Machine(99), sample=None)
    assert (found.first_diverging, found.between) == ("", ())
    assert found.layers[-1].layer == LAYERS[-1]


def test_where_nothing_can_be_probed_everything_is_left_open_after_a_bounded_number_of_probes() -> None:
    layers = [Layer(node=f"n{index}", op="Conv") for index in range(500)]
    machine = Machine(3, unfaithful=range(500))
    found = search(layers, machine, sample=None)
    assert not found.layers
    assert len(found.between) == 500
    assert len(machine.asked) < 40

from __future__ import annotations

import itertools
import random

import pytest

from edgeq.stages.fastest.labelling import ENDLESS, Choice, Edge, cheapest, cost_ns


def _best_by_trying(choices: list[Choice], edges: list[Edge]) -> int:
    names = [choice.name for choice in choices]
    subsets = itertools.chain.from_iterable(itertools.combinations(names, count) for count in range(len(names) + 1))
    return min(cost_ns(subset, choices, edges) for subset in subsets)


def _chain(*times: tuple[int, int], convert: int) -> tuple[list[Choice], list[Edge]]:
    choices = [Choice(name=str(i), float_ns=f, int8_ns=q) for i, (f, q) in enumerate(times)]
    names = [None, *(choice.name for choice in choices), None]
    edges = [
        Edge(giver=giver, readers=(reader,), quantize_ns=convert, dequantize_ns=convert)
        for giver, reader in itertools.pairwise(names)
    ]
    return choices, edges


def test_a_slow_int8_layer_stays_float_where_that_pays_for_both_conversions() -> None:
    times = ((100, 10), (10, 60), (100, 10))

    assert cheapest(*_chain(*times, convert=20)) == {"0", "2"}
    assert cheapest(*_chain(*times, convert=30)) == {"0", "1", "2"}
    assert cheapest(*_chain(*times, convert=200)) == frozenset()


def test_a_tensor_is_converted_once_for_all_who_read_it() -> None:
    choices = [Choice(name="a", float_ns=0, int8_ns=90)]
    choices += [Choice(name=name, float_ns=50, int8_ns=20) for name in "bcd"]
    edges = [
        Edge(giver="a", readers=("b", "c", "d"), quantize_ns=40, dequantize_ns=40),
        *(Edge(giver=name, readers=(None,), quantize_ns=0, dequantize_ns=0) for name in "bcd"),
    ]

    assert cheapest(choices, edges) == {"b", "c", "d"}
    assert cost_ns("bcd", choices, edges) == 100


def test_a_chained_operation_reads_nothing_that_is_float() -> None:
    choices = [Choice(name="conv", float_ns=10, int8_ns=30), Choice(name="add", float_ns=30, int8_ns=1, chained=True)]
    edges = [Edge(giver="conv", readers=("add",), quantize_ns=0, dequantize_ns=0)]

    assert cheapest(choices, edges) == {"conv", "add"}
    assert cost_ns({"add"}, choices, edges) >= ENDLESS
    choices[0] = Choice(name="conv", float_ns=10, int8_ns=50)
    assert cheapest(choices, edges) == frozenset()


def test_of_equals_most_is_int8() -> None:
    choices, edges = _chain((10, 10), (10, 10), convert=0)

    assert cheapest(choices, edges) == {"0", "1"}
    assert cheapest([], []) == frozenset()


@pytest.mark.parametrize("seed", range(60))
def test_the_cut_costs_what_the_best_of_all_labellings_does(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # nobody gains from guessing it
    count = chance.randint(1, 9)
    names = [str(index) for index in range(count)]
    choices = [
        Choice(name=name, float_ns=chance.randint(0, 40), int8_ns=chance.randint(0, 40), chained=chance.random() < 0.3)
        for name in names
    ]
    edges = []
    for index in range(-1, count):
        later: list[str | None] = [name for name in names[index + 1 :] if chance.random() < 0.4]
        readers = later + [None] * (not later or chance.random() < 0.2)
        giver = None if index < 0 or chance.random() < 0.1 else names[index]
        edges.append(
            Edge(
                giver=giver,
                readers=tuple(readers),
                quantize_ns=chance.randint(0, 30),
                dequantize_ns=chance.randint(0, 30),
            )
        )

    found = cheapest(choices, edges)

    assert cost_ns(found, choices, edges) == _best_by_trying(choices, edges)


def test_a_deep_graph_is_no_deep_recursion() -> None:
    chance = random.Random(1)  # noqa: S311  # as above
    times = [(chance.randint(0, 100), chance.randint(0, 100)) for _ in range(3000)]
    choices, edges = _chain(*times, convert=20)

    found = cheapest(choices, edges)

    assert cost_ns(found, choices, edges) <= min(sum(f for f, _ in times), sum(q for _, q in times) + 40)

"""Which operations to run in int8 so that the whole takes least: a minimum cut.

Each operation takes one time in float and another in int8, and each tensor
between the two takes a conversion: once, however many read it. A sum of
costs of one label and of pairs of labels, where a pair costs only if its two
differ, is minimised exactly by a minimum s-t cut (Greig, Porteous and
Seheult 1989; Kolmogorov and Zabih, "What Energy Functions Can Be Minimized
via Graph Cuts?", PAMI 2004). A conversion that several readers share is one
node more for each direction, as in Picard's closures (1976). The cut is
found by Dinic's algorithm (1970).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ENDLESS = 1 << 60


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An operation that may run in either: nanoseconds of one inference.

    ``chained`` ones run in int8 only where all they read is made in int8.
    """

    name: str
    float_ns: int
    int8_ns: int
    chained: bool = False


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A tensor: who gives it and who reads it, None for what is float in any case, and what converting it takes."""

    giver: str | None
    readers: tuple[str | None, ...]
    quantize_ns: int
    dequantize_ns: int


def cost_ns(int8: Iterable[str], choices: Sequence[Choice], edges: Sequence[Edge]) -> int:
    """What those in ``int8`` and all others in float take together; ENDLESS or more where it cannot be."""
    chosen = frozenset(int8)
    chained = {choice.name for choice in choices if choice.chained}
    total = sum(choice.int8_ns if choice.name in chosen else choice.float_ns for choice in choices)
    for edge in edges:
        given_int8 = edge.giver in chosen
        read_int8 = {reader for reader in edge.readers if reader in chosen}
        if read_int8 and not given_int8:
            total += edge.quantize_ns + (ENDLESS if read_int8 & chained else 0)
        if given_int8 and len(read_int8) < len(set(edge.readers)):
            total += edge.dequantize_ns
    return total


def cheapest(choices: Sequence[Choice], edges: Sequence[Edge]) -> frozenset[str]:
    """The operations to run in int8; of labellings that cost the same the one with most of them."""
    number = {choice.name: index + 2 for index, choice in enumerate(choices)}
    chained = {choice.name for choice in choices if choice.chained}
    network = _Network(2 + len(choices) + 2 * len(edges))
    for choice in choices:
        network.join(_INT8, number[choice.name], choice.float_ns)
        network.join(number[choice.name], _FLOAT, choice.int8_ns)
    for index, edge in enumerate(edges):
        wanted, unwanted = 2 + len(choices) + 2 * index, 3 + len(choices) + 2 * index
        giver = _FLOAT if edge.giver is None else number[edge.giver]
        network.join(wanted, giver, edge.quantize_ns)
        network.join(giver, unwanted, 0 if giver == _FLOAT else edge.dequantize_ns)
        for reader in set(edge.readers):
            place = _FLOAT if reader is None else number[reader]
            network.join(unwanted, place, ENDLESS)
            if place != _FLOAT:
                network.join(place, wanted, ENDLESS)
                network.join(place, giver, ENDLESS if reader in chained else 0)
    float_side = network.cut()
    return frozenset(name for name, index in number.items() if index not in float_side)


_INT8, _FLOAT = 0, 1


class _Network:
    """A flow network from node 0 to node 1, with whole capacities."""

    def __init__(self, nodes: int) -> None:
        self._out: list[list[int]] = [[] for _ in range(nodes)]
        self._to: list[int] = []
        self._room: list[int] = []

    def join(self, start: int, end: int, room: int) -> None:
        """An edge with so much ``room``; its reverse stands behind it, without any."""
        if not room:
            return
        for first, second, capacity in ((start, end, room), (end, start, 0)):
            self._out[first].append(len(self._to))
            self._to.append(second)
            self._room.append(capacity)

    def cut(self) -> set[int]:
        """The nodes on the side of node 1 of the minimum cut that is nearest to it."""
        while (level := self._levels())[_FLOAT] >= 0:
            following = [0] * len(self._out)
            while self._push(level, following):
                pass
        return self._reaching(_FLOAT)

    def _levels(self) -> list[int]:
        level = [-1] * len(self._out)
        level[_INT8] = 0
        waiting = deque([_INT8])
        while waiting:
            node = waiting.popleft()
            for edge in self._out[node]:
                if self._room[edge] and level[self._to[edge]] < 0:
                    level[self._to[edge]] = level[node] + 1
                    waiting.append(self._to[edge])
        return level

    def _push(self, level: list[int], following: list[int]) -> int:
        """Send what fits along one path of the levels; 0 if there is none. Without recursion: graphs are deep."""
        path: list[int] = []
        node = _INT8
        while node != _FLOAT:
            while following[node] < len(self._out[node]):
                edge = self._out[node][following[node]]
                if self._room[edge] and level[self._to[edge]] == level[node] + 1:
                    break
                following[node] += 1
            else:
                if not path:
                    return 0
                node = self._to[path.pop() ^ 1]
                following[node] += 1
                continue
            path.append(edge)
            node = self._to[edge]
        sent = min(self._room[edge] for edge in path)
        for edge in path:
            self._room[edge] -= sent
            self._room[edge ^ 1] += sent
        return sent

    def _reaching(self, end: int) -> set[int]:
        found, waiting = {end}, [end]
        while waiting:
            for edge in self._out[waiting.pop()]:
                before = self._to[edge]
                if self._room[edge ^ 1] and before not in found:
                    found.add(before)
                    waiting.append(before)
        return found

"""Where in the user's code a node of a graph, or an error, comes from."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.fx import Graph, Node

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in \w+\n\s*(.*)')
_PLACE = re.compile(r"[^\s(]+:\d+(?=:)")
_ORIGIN = "edgeq_origin"
_NOT_THE_USERS = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]), "<")


def source_of(node: Node) -> str:
    """``module.path (file.py:LINE: code)`` of the innermost user frame that made ``node``; empty if unknown.

    A module that only torch's own code calls, as ``nn.Sequential`` does, is named by its class: ``0.2 (Hardswish)``.
    """
    return source_in(node.meta.get("stack_trace") or "", module_of(node), class_of(node))


def source_in(stack_trace: str, module: str, kind: str = "") -> str:
    """The same of a stack that was written down; ``kind`` is the class of the module."""
    users = [frame for frame in _FRAME.findall(stack_trace) if not frame[0].startswith(_NOT_THE_USERS)]
    place = kind
    if users:
        file, line, code = users[-1]
        place = f"{Path(file).name}:{line}: {code.strip()}"
    return f"{module} ({place})" if module and place else module or place


def mark_origins(graph: Graph) -> None:
    """Let every node of a float graph, and whatever is made of it later, say which one it was (:func:`origin_of`).

    torch.export, PT2E and both exporters keep ``meta["custom"]`` and hand it
    on to what they make of a node.
    """
    for node in graph.nodes:
        if node.op == "call_function":
            node.meta["custom"] = {**node.meta.get("custom", {}), _ORIGIN: node.name}


def origin_of(node: Node) -> str:
    """The name of the node in the simplified float graph that ``node`` was made of; empty if of none."""
    return str((node.meta.get("custom") or {}).get(_ORIGIN, ""))


def module_of(node: Node) -> str:
    """The path of the innermost module whose forward made ``node`` (``features.0.conv``); empty if unknown."""
    modules = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values()]
    return modules[-1] if modules else ""


def class_of(node: Node) -> str:
    """The class of the innermost module whose forward made ``node``, without the modules it is defined in."""
    classes = [kind for _, kind in (node.meta.get("nn_module_stack") or {}).values()]
    if not classes:
        return ""
    return str(getattr(classes[-1], "__name__", classes[-1])).rsplit(".", 1)[-1]


def place_of(source: str) -> str:
    """``file.py:LINE`` of what :func:`source_of` says; empty if it says none."""
    found = _PLACE.search(source)
    return found.group() if found else ""


def earlier_names(node: Node) -> tuple[str, ...]:
    """What a recipe may call a node of any graph on the way from the model to a file: its module's path, its names."""
    names = [module_of(node), node.name]
    sources = list(node.meta.get("from_node") or ())
    while sources:
        source = sources.pop()
        names.append(source.name)
        sources += source.from_node
    return tuple(name for name in names if name)


def user_line(error: BaseException) -> str:
    """``file.py:LINE: code`` of the innermost frame outside installed packages; empty if there is none."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_NOT_THE_USERS)]
    if not frames:
        return ""
    frame = frames[-1]
    return f"{frame.filename}:{frame.lineno}: {frame.line}"

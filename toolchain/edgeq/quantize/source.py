"""Where in the user's code a node of a graph, or an error, comes from."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.fx import Node

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in \w+\n\s*(.*)')
_NOT_THE_USERS = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]), "<")


def source_of(node: Node) -> str:
    """``module.path (file.py:LINE: code)`` of the innermost user frame that made ``node``; empty if unknown."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    users = [frame for frame in frames if not frame[0].startswith(_NOT_THE_USERS)] or frames[:1]
    where = module_of(node)
    if not users:
        return where
    file, line, code = users[-1]
    place = f"{Path(file).name}:{line}: {code.strip()}"
    return f"{where} ({place})" if where else place


def module_of(node: Node) -> str:
    """The path of the innermost module whose forward made ``node`` (``features.0.conv``); empty if unknown."""
    modules = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values()]
    return modules[-1] if modules else ""


def user_line(error: BaseException) -> str:
    """``file.py:LINE: code`` of the innermost frame outside installed packages; empty if there is none."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_NOT_THE_USERS)]
    if not frames:
        return ""
    frame = frames[-1]
    return f"{frame.filename}:{frame.lineno}: {frame.line}"

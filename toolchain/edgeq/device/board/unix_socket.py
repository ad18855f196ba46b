"""Unix sockets in folders of any depth.

The kernel takes 107 bytes for the address of a unix socket, and a cache may
lie deeper than that. A folder that is open has the short name
``/proc/self/fd/N``.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def listen_on(path: Path) -> socket.socket:
    """A new socket that listens at ``path``, for a program that inherits it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short_name(path) as name:
            listener.bind(name)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def connect_to(path: Path, *, timeout_s: float) -> socket.socket:
    """A connection to the program that listens at ``path``; OSError when none does."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout_s)
    try:
        with _short_name(path) as name:
            client.connect(name)
    except BaseException:
        client.close()
        raise
    return client


@contextlib.contextmanager
def _short_name(path: Path) -> Iterator[str]:
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)

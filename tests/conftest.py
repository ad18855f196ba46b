"""What every test may rely on."""

from __future__ import annotations

import gc
import os
import shutil
import signal

import pytest

# A shell that starts a job in the background lets it ignore SIGINT, and its children with it: a test of Ctrl-C would
# then wait for what cannot happen. A handler of our own is not inherited; the default is.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The examples are measured where they lie, in the checkout: what tests measure is not their history.
os.environ["EDGEQ_HISTORY"] = "off"


def pytest_collection_finish() -> None:
    """Let the collector look no more at what imports have made: it would, again and again, and find nothing."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def bound_by_permissions() -> tuple[str, ...]:
    """What stands before a command so that root, too, may write only where it is allowed to; nothing for others."""
    if os.geteuid():
        return ()
    assert shutil.which("setpriv"), "util-linux is not installed"
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search")

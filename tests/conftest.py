"""What every test may rely on."""

from __future__ import annotations

import os
import signal

# A shell that starts a job in the background lets it ignore SIGINT, and its children with it: a test of Ctrl-C would
# then wait for what cannot happen. A handler of our own is not inherited; the default is.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The examples are measured where they lie, in the checkout: what tests measure is not their history.
os.environ["EDGEQ_HISTORY"] = "off"

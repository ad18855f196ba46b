"""What has changed between two observations of an artifact: better, the same, worse, or cannot tell.

A figure is compared only where the comparison means something: instructions
of one core and one runner, latencies of one device and beyond what its
sessions differ by anyway, accuracy on the same samples. What cannot be told
says why.
"""

from __future__ import annotations

from edgeq.stages.change.compare import of_the_file, on_the_device
from edgeq.stages.change.observe import all_observations, observations
from edgeq.stages.change.paired import in_one_session, read_comparisons
from edgeq.stages.change.spread import Spread, between_sessions

__all__ = [
    "Spread",
    "all_observations",
    "between_sessions",
    "in_one_session",
    "observations",
    "of_the_file",
    "on_the_device",
    "read_comparisons",
]

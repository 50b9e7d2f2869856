"""How many processors this process may use."""

from __future__ import annotations

import os


def processor_count() -> int:
    """Those that the system gives this process, a container's or a batch job's share where it has one; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it; it knows such a share
    return len(affinity(0)) if affinity else os.cpu_count() or 1

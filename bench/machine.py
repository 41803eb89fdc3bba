"""What figures depend on: the machine, its load and the versions of what runs.  Does I/O."""

from __future__ import annotations

import os
import platform
import ssl
import time
from importlib import metadata
from pathlib import Path


def machine() -> dict[str, object]:
    """Return what figures depend on."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION.split()[1],
        "load_average": os.getloadavg()[0],
        "time": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
        "versions": {name: metadata.version(name) for name in ("Twisted", "treq", "klein", "msgspec")},
    }

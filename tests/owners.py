"""Files of another user's, whoever runs the tests.  Does I/O."""

from __future__ import annotations

import os
from pathlib import Path

NOBODY = 65534


def another_users(path: Path) -> Path:
    """Return ``path``, given away where root runs the tests, else something of the same kind that is root's."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
        return path
    return Path("/") if path.is_dir() else Path("/etc/passwd")

"""The admin API held against its own document by schemathesis; `.ci/full schemathesis` runs it.

Every route is asked with values that the document allows and with some that it does not.  No answer may be a failure of
the gateway's, of another shape or type than the document says, or given to who is not signed in.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.house import TOKEN, House, ask

LEFT_OUT = {
    "positive_data_acceptance": "a document cannot say which names there are, nor that sign-ins are limited",
    "ignored_auth": "whoever shows many wrong tokens is answered with 429; tests/test_adminweb.py asks every route",
    "allow_header_conformance": "a credential's name may hold slashes, so that one path may be of two routes",
}
"""Checks that are not made, and why."""
ENDLESS = ("/v1/live",)
"""Routes whose answer has no end; tests/test_feed.py holds them to what they promise."""


def main() -> int:
    """Run it; return the exit status."""
    with tempfile.TemporaryDirectory() as directory:
        house = House(Path(directory) / "house")
        try:
            house.begin()
            bearer = {"Authorization": f"Bearer {TOKEN}"}
            status, document, _ = ask("GET", f"{house.admin}/v1/openapi.json", None, bearer)
            print(f"the document: {status}, {len(document)} bytes")
            command = [
                str(Path(sys.executable).with_name("schemathesis")), "run", f"{house.admin}/v1/openapi.json",
                "--header", f"Authorization: Bearer {TOKEN}", "--max-examples", "25", "--seed", "1", "--no-color",
                "--exclude-checks", ",".join(LEFT_OUT), "--request-timeout", "20",
            ]  # fmt: skip
            for path in ENDLESS:
                command += ["--exclude-path", path]
            found = subprocess.run(command, check=False, cwd=directory).returncode
        finally:
            house.end()
        log = (house.home / "antigravity.log").read_text("utf-8", "replace")
        if "Traceback" in log:
            print("FAIL: the gateway's log holds a traceback", log[log.index("Traceback") :][:4000])
            return 1
    print("FAIL" if found else "pass")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

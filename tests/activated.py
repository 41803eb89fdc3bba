"""Become a command with sockets passed on as systemd does: ``python activated.py NAMES [OPTION...] -- COMMAND...``.

The sockets are the file descriptors from 3 on; NAMES are theirs, separated by colons.  LISTEN_PID has to be the
process that uses them, so this is run in between and becomes it.  With ``--mdwe`` memory may not become executable
from then on, as with MemoryDenyWriteExecute=: prctl(2), PR_SET_MDWE.  With ``--unprivileged`` it may listen on no
port below 1024, whoever runs it: PR_CAPBSET_DROP.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE = 24, 10
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1


def main() -> None:
    """Set up the environment and become the command."""
    at = sys.argv.index("--")
    names, options, command = sys.argv[1], sys.argv[2:at], sys.argv[at + 1 :]
    if names:
        count = len(names.split(":"))
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES=names)
        for number in range(3, 3 + count):
            os.set_inheritable(number, True)
    if "--mdwe" in options and ctypes.CDLL(None, use_errno=True).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
        sys.exit(f"this kernel has no PR_SET_MDWE: {os.strerror(ctypes.get_errno())}")
    if "--unprivileged" in options and os.geteuid() == 0:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE, 0, 0, 0)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()

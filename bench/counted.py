"""Run twistd with a counter beside it: whoever connects to its port is told what the process holds.  Does I/O.

    python bench/counted.py PORT TWISTD-ARGUMENTS...

Nothing of the gateway knows of it.  A question costs a full garbage collection.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys

from twisted.internet import defer, protocol, reactor
from twisted.scripts import twistd


def held() -> dict[str, int]:
    """Return what this process holds now, after what is unreachable has been collected."""
    gc.collect()
    kinds = [type(one) for one in gc.get_objects()]
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return {
        "resident": pages * resource.getpagesize(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "deferreds": sum(issubclass(kind, defer.Deferred) for kind in kinds),
        "objects": len(kinds),
        "timers": len(reactor.getDelayedCalls()),
    }


class Counter(protocol.Protocol):
    """Tells, and closes."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(json.dumps(held()).encode())
        self.transport.loseConnection()


def main() -> None:
    """Be twistd."""
    port = int(sys.argv.pop(1))
    sys.argv[0] = "twistd"
    factory = protocol.Factory.forProtocol(Counter)
    reactor.callWhenRunning(lambda: reactor.listenTCP(port, factory, interface="127.0.0.1"))
    twistd.run()


if __name__ == "__main__":
    main()

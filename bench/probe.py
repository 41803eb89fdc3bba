"""Ask a port for something tiny again and again until standard input ends; print the waits as JSON.  Does I/O.

A process of its own, so that what holds the load generator does not count as the relay's doing.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
import time

PAUSE_SECONDS = 0.001
_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def main() -> None:
    """Ask, whatever the answer is: it only has to come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    port = parser.parse_args().port
    over = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=watch, daemon=True).start()
    waits: list[float] = []
    connection = _connect(port)
    print("ready", flush=True)
    while not over.is_set():
        began = time.perf_counter()
        try:
            connection.sendall(_REQUEST % port)
            came = connection.recv(65536)
        except OSError:
            came = b""
        if came:
            waits.append(time.perf_counter() - began)
        if not came or b"close" in came.lower():
            connection.close()
            connection = _connect(port)
        time.sleep(PAUSE_SECONDS)
    print(json.dumps(waits))


if __name__ == "__main__":
    main()

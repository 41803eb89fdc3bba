"""The real daemon behind a real nginx as nginx is by default: it speaks HTTP/1.0 to us.  Opens sockets."""

from __future__ import annotations

import shutil

from tests.clients.daemon import free_port, spawn
from tests.processes import GENERATE, SSE, DaemonCase, Server, Simulator, prompt, reactor

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
CONFIGURATION = """
daemon off; master_process off; pid {home}/nginx.pid; error_log stderr crit;
events {{}}
http {{
    access_log off;
    client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{behind}; }}
    }}
}}
"""
"""What is not said here, the protocol towards us above all, is nginx's default."""


class NginxTests(DaemonCase):
    async def fronted(self) -> tuple[Server, Simulator]:
        """Start a simulator, a daemon before it and an nginx before that."""
        daemon, simulator = await self.both(pace=0.02)
        port = free_port()
        path = self.home / "nginx.conf"
        path.write_text(CONFIGURATION.format(home=self.home, port=port, behind=daemon.port))
        child = spawn(reactor, [NGINX, "-e", "stderr", "-c", str(path)], self.home, {})
        self.addCleanup(self._gone, child)
        nginx = Server(child, port)
        await nginx.started()
        return nginx, simulator

    async def test_unary_answers_and_streams_pass(self) -> None:
        """Whole: the first by its length, the second up to the connection's end (L6)."""
        nginx, _ = await self.fronted()
        self.assertIn("Hello", (await nginx.ask(GENERATE, prompt("Hello"))).text)
        stream = await nginx.ask(SSE, prompt("Hello"))
        self.assertEqual((stream.headers["content-type"], stream.whole), ("text/event-stream", True))
        self.assertIn(b'"finishReason":"STOP"', stream.body)

    async def test_events_are_not_gathered(self) -> None:
        """The first is there long before the last (L6)."""
        nginx, simulator = await self.fronted()
        await simulator.fault("stall", after=1, seconds=2.0)
        stream = await nginx.begin(SSE, prompt())
        await stream.has(b"data: ")
        self.assertFalse(stream.over)
        self.assertTrue((await stream.ended()).whole)

    async def test_a_stream_that_breaks_is_seen_to_break(self) -> None:
        """Behind nginx as before it: without the reset it would look whole (C7, L6)."""
        nginx, simulator = await self.fronted()
        await simulator.fault("truncate", after=2)
        stream = await nginx.ask(SSE, prompt())
        self.assertIn(b"UPSTREAM_TRUNCATED", stream.body)
        self.assertFalse(stream.whole)

    async def test_a_client_that_leaves_is_noticed_through_it(self) -> None:
        """nginx closes its connection to us, and upstream's is closed (L2)."""
        nginx, simulator = await self.fronted()
        await simulator.fault("endless", pace=0.02)
        stream = await nginx.begin(SSE, prompt())
        await stream.has(b"data: ")
        stream.leave()
        await simulator.seen(lambda found: bool(found) and found[-1]["ended"])


if NGINX is None:
    LACKS = "nginx"
    print(f"{__name__}: nginx is not installed: nobody spoke HTTP/1.0 through it")
    del NginxTests

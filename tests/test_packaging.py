"""What is installed: a wheel and an editable install, each in an environment of its own.  Uses pip, takes a minute.

Only with ``ANTIGRAVITY_TEST_PACKAGING=1`` in the environment does this module define tests, for they need an index
of packages.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

from gateway import __version__
from tests.clients.daemon import Child, free_port, spawn
from tests.clients.environments import REPOSITORY
from tests.processes import GENERATE, DaemonCase, Server, prompt, reactor

PIP_SECONDS = 600
_OF_THE_INSTALLER = re.compile(r"PIP_.*|.*_proxy|SSL_CERT_FILE|REQUESTS_CA_BUNDLE", re.IGNORECASE)
_NOT_SOURCE = shutil.ignore_patterns(".*", "_trial_temp*", "*.egg-info", "build", "dist", "__pycache__", "dropin.cache")


class Packaging(DaemonCase):
    """The checks of both installs."""

    timeout = PIP_SECONDS

    async def test_wheel_brings_the_gateway_and_leaves_twisted_alone(self) -> None:
        """A wheel holds the gateway, its plugin and ``conf``, no tests, and nothing that shadows Twisted."""
        source = self._source()
        await self._command(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "wheels", str(source))
        (wheel,) = (self.home / "wheels").glob("antigravity_gateway-*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        for wanted in ("gateway/tap.py", "gateway/py.typed", "twisted/plugins/antigravity_plugin.py"):
            self.assertIn(wanted, names)
        dashboard = REPOSITORY / "gateway" / "dashboard"
        pages = {f"gateway/dashboard/{one.relative_to(dashboard)}" for one in dashboard.rglob("*") if one.is_file()}
        self.assertIn("gateway/dashboard/vendor/uPlot-LICENSE.txt", pages)
        self.assertEqual(pages - set(names), set())
        for shared in ("antigravity.yaml", "grafana-dashboard.json", "prometheus-rules.yaml"):
            self.assertTrue(any(name.endswith(f"/share/antigravity-gateway/{shared}") for name in names), names)
        for unwanted in ("twisted/__init__.py", "twisted/plugins/__init__.py"):
            self.assertNotIn(unwanted, names)
        tops = {name.split("/")[0] for name in names}
        self.assertEqual({top for top in tops if not top.startswith("antigravity_gateway-")}, {"gateway", "twisted"})
        environment = await self._environment(str(wheel))
        self.assertTrue((environment / "share" / "antigravity-gateway" / "antigravity.yaml").is_file())
        await self._works(environment)

    async def test_editable_install_finds_the_plugin(self) -> None:
        """``pip install -e .`` makes the same commands appear as a wheel does."""
        environment = await self._environment("--editable", str(self._source()))
        await self._works(environment)

    def _source(self) -> Path:
        """A copy of the tree: what a build leaves behind must not lie in the tree itself."""
        copy = self.home / "source"
        shutil.copytree(REPOSITORY, copy, ignore=_NOT_SOURCE)
        return copy

    async def _environment(self, *what: str) -> Path:
        environment = self.home / "environment"
        await self._command(sys.executable, "-m", "venv", str(environment))
        await self._command(str(environment / "bin" / "python"), "-m", "pip", "install", *what)
        return environment

    async def _works(self, environment: Path) -> None:
        """Twistd of this environment knows the gateway, runs it, and still knows Twisted's own plugins."""
        twistd = str(environment / "bin" / "twistd")
        shown = (await self._command(twistd, "--help")).stdout.decode()
        for command in ("antigravity", "antigravity-simulator", "web", "dns"):
            self.assertRegex(shown, rf"(?m)^\s+{command}\s")
        self.assertIn(b"--simulate", (await self._command(twistd, "antigravity", "--help")).stdout)
        version = (await self._command(twistd, "antigravity", "--version")).stdout.decode()
        self.assertEqual(version, f"antigravity-gateway {__version__}\n")
        await self._command(twistd, "web", "--help")
        port = free_port()
        configuration = self.home / "antigravity.yaml"
        configuration.write_text(f'{{"proxy": {{"listen": "tcp:{port}:interface=127.0.0.1"}}}}')
        command = [twistd, "-n", "--pidfile=", "antigravity", "--simulate", "--config", str(configuration)]
        child = spawn(reactor, command, self.home, {"HOME": str(self.home)})
        self.addCleanup(self._gone, child)
        server = Server(child, port)
        await server.started()
        self.assertEqual((await server.ask(GENERATE, prompt())).status, 200)

    async def _command(self, *command: str) -> Child:
        """Run a command to its good end."""
        more = {name: value for name, value in os.environ.items() if _OF_THE_INSTALLER.fullmatch(name)}
        child = spawn(reactor, list(command), self.home, {"PIP_DISABLE_PIP_VERSION_CHECK": "1", **more})
        self.addCleanup(child.ended_within, 0, reactor)
        self.assertTrue(await child.ended_within(PIP_SECONDS, reactor), child.printed)
        self.assertEqual(child.exit_code, 0, child.printed)
        return child


if os.environ.get("ANTIGRAVITY_TEST_PACKAGING") == "1":

    class PackagingTests(Packaging):
        """Both ways of installing."""


# Trial collects every TestCase that it finds by name.
del Packaging

"""``antigravity login`` as a process, before the simulator: the browser is played by hand."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet.endpoints import TCP6ClientEndpoint, connectProtocol
from twisted.internet.task import deferLater

from tests.clients.daemon import Child, secret, spawn
from tests.clients.environments import REPOSITORY
from tests.processes import (
    DEADLINE_SECONDS,
    GENERATE,
    POLL_SECONDS,
    Answer,
    Connection,
    DaemonCase,
    Server,
    Simulator,
    aistudio,
    head,
    prompt,
    reactor,
)

CLIENT_SECRET = "the-client-secret"


def pool(simulator: str, **more: Any) -> dict[str, Any]:
    """An upstream whose accounts are signed in at the simulator."""
    return {
        "kind": "codeassist",
        "base_urls": [f"{simulator}/v1internal"],
        "oauth": {
            "client_id": "a-client-id",
            "client_secret": CLIENT_SECRET,
            "token_url": f"{simulator}/token",
            "auth_url": f"{simulator}/o/oauth2/v2/auth",
            "userinfo_url": f"{simulator}/oauth2/v2/userinfo",
        },
        **more,
    }


def ipv6() -> bool:
    """Say whether this machine has ::1."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class LoginCase(DaemonCase):
    """A simulator, a configuration that names it, and the command."""

    google: Simulator
    config: Path

    async def prepare(self, **more: Any) -> None:
        self.google = await self.simulator()
        self.config, self.port = self.configured({"pool": pool(self.google.url, **more)})

    @property
    def accounts(self) -> Path:
        return self.home / f"state-{self.port}" / "accounts"

    def saved(self) -> dict[str, Any]:
        """Return the one account file."""
        (path,) = self.accounts.iterdir()
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.accounts.stat().st_mode), 0o700)
        document: dict[str, Any] = json.loads(path.read_bytes())
        return document

    def command(self, *arguments: str) -> Child:
        """Start ``antigravity``."""
        child = spawn(
            reactor,
            [sys.executable, "-m", "gateway.cli", *arguments],
            self.home,
            {"PYTHONPATH": str(REPOSITORY), "HOME": str(self.home)},
        )
        self.addCleanup(self._gone, child)
        return child

    def login(self, *arguments: str) -> Child:
        return self.command("login", "--config", str(self.config), "--no-browser", *arguments)

    async def said(self, child: Child, pattern: str) -> str:
        """Wait until the command has printed something, and return it."""
        deadline = reactor.seconds() + DEADLINE_SECONDS
        while not (found := re.search(pattern, child.printed)):
            if not child.running or reactor.seconds() > deadline:
                raise AssertionError(f"it did not say {pattern!r}:\n{child.printed}")
            await deferLater(reactor, POLL_SECONDS)
        return found[0]

    async def redirect(self, child: Child, account: str = "someone") -> str:
        """Open the printed address, sign in as the account, and return where Google sends the browser."""
        url = await self.said(child, r"http://\S+/o/oauth2/v2/auth\?\S+(?=\n)")
        answer = await self.google.ask(url.removeprefix(self.google.url) + f"&login_hint={account}")
        self.assertEqual(answer.status, 302, answer.body)
        return answer.headers["location"]

    async def follow(self, child: Child, location: str) -> Answer:
        """Go where Google sent the browser."""
        parts = urlsplit(location)
        assert parts.hostname == "127.0.0.1"
        assert parts.port is not None
        return await Server(child, parts.port).ask(f"{parts.path}?{parts.query}")

    async def end(self, child: Child, status: int) -> str:
        """Wait for the command's end; what it printed shows no secret."""
        self.assertTrue(await child.ended_within(DEADLINE_SECONDS, reactor), child.printed)
        self.assertEqual(child.exit_code, status, child.printed)
        for word in (CLIENT_SECRET, "ya29.", "1//sim", "4/sim", "4%2Fsim"):
            self.assertNotIn(word, child.printed)
        return child.printed


class LoginTests(LoginCase):
    """From the printed address to a daemon that serves."""

    async def test_browser_on_this_machine_signs_an_account_in(self) -> None:
        """Beside a connection opened in advance, a favicon and a stranger's redirect; then the daemon serves."""
        await self.prepare()
        child = self.login()
        child.transport.closeStdin()
        location = await self.redirect(child)
        parts = urlsplit(location)
        assert parts.port is not None
        browser = Server(child, parts.port)
        early = await browser.connect()
        self.assertEqual((await browser.ask("/favicon.ico")).status, 404)
        self.assertEqual((await browser.ask("/callback?code=stolen&state=guessed")).status, 400)
        answer = await self.follow(child, location)
        self.assertEqual((answer.status, answer.whole), (200, True))
        self.assertIn(b"Signed in", answer.body)
        self.assertIn("default-src 'none'", answer.headers["content-security-policy"])
        printed = await self.end(child, 0)
        await early.until(lambda: early.over)
        self.assertIn("someone@example.com", printed)
        account = self.saved()
        self.assertEqual(
            {name: value for name, value in account.items() if name != "refresh_token"},
            {"name": "someone@example.com", "email": "someone@example.com", "project": "project-of-someone"},
        )

        daemon = Server(self.twistd("antigravity", "--config", str(self.config)), self.port)
        await daemon.started()
        served = await daemon.ask(GENERATE, prompt())
        self.assertEqual(served.status, 200, served.body)
        (entry,) = await self.google.requests("generateContent")
        self.assertEqual((entry["credential"], entry["face"]), ("someone", "codeassist"))

    async def test_browser_on_another_machine_is_pasted(self) -> None:
        """Nonsense and another sign-in's address are told and waited on; a new account is onboarded."""
        await self.prepare()
        child = self.login("--name", "work")
        location = await self.redirect(child, "new-one")
        child.transport.write(b"\nwhat?\n" + location.replace("state=", "state=x").encode() + b"\n")
        await self.said(child, r"(?s)not the answer.*not the answer")
        child.transport.write(location.encode() + b"\n")
        printed = await self.end(child, 0)
        self.assertIn("Project: project-of-new-one.", printed)
        account = self.saved()
        self.assertEqual((account["name"], account["project"]), ("work", "project-of-new-one"))
        verbs = [entry["verb"] for entry in (await self.google.control("GET", "requests"))["requests"]]
        self.assertEqual(verbs[-5:-2], ["userinfo", "loadCodeAssist", "onboardUser"])
        self.assertEqual(set(verbs[-2:]), {"operations.get"})

    async def test_code_alone_may_be_pasted_as_the_last_line_of_a_file(self) -> None:
        """Without a line end; and a second sign-in renews the account where it is."""
        await self.prepare()
        tokens = set()
        for word in ("Saved", "Renewed"):
            child = self.login()
            location = await self.redirect(child)
            child.transport.write(parse_qs(urlsplit(location).query)["code"][0].encode())
            child.transport.closeStdin()
            self.assertIn(f"{word} account someone@example.com", await self.end(child, 0))
            tokens.add(self.saved()["refresh_token"])
        self.assertEqual(len(tokens), 2)

    async def test_redirect_to_the_other_loopback_address_arrives(self) -> None:
        """A browser that takes ::1 for this machine finds the same port there."""
        await self.prepare()
        child = self.login()
        parts = urlsplit(await self.redirect(child))
        endpoint = TCP6ClientEndpoint(reactor, "::1", parts.port, timeout=10)
        connection: Connection = await connectProtocol(endpoint, Connection())
        data = head(f"{parts.path}?{parts.query}")
        connection.write(data[:30])
        await deferLater(reactor, 0)
        connection.write(data[30:])
        self.assertEqual((await connection.ended()).status, 200)
        await self.end(child, 0)

    if not ipv6():
        test_redirect_to_the_other_loopback_address_arrives.skip = "this machine has no ::1"  # type: ignore[attr-defined]

    async def test_account_without_a_project_is_kept_and_told(self) -> None:
        """It says what is missing and what its owner must open, invents nothing, and ends with 1."""
        await self.prepare()
        child = self.login()
        await self.follow(child, await self.redirect(child, "ineligible-one"))
        printed = await self.end(child, 1)
        self.assertIn("needs a Google Cloud project of your own", printed)
        self.assertIn("https://accounts.google.com/signin/continue?", printed)
        account = self.saved()
        self.assertNotIn("project", account)
        self.assertTrue(account["refresh_token"])


class FailureTests(LoginCase):
    """What ends without an account."""

    def nothing_saved(self) -> None:
        self.assertFalse(self.accounts.exists() and os.listdir(self.accounts))

    async def test_owner_who_declines_is_believed(self) -> None:
        """The page and the terminal say so."""
        await self.prepare()
        child = self.login()
        answer = await self.follow(child, await self.redirect(child, "deny"))
        self.assertEqual(answer.status, 400)
        self.assertIn(b"failed", answer.body)
        self.assertIn("access_denied", await self.end(child, 1))
        self.nothing_saved()

    async def test_code_that_is_no_good_is_told(self) -> None:
        """A code that the token endpoint does not know; the browser's page is not what tells."""
        await self.prepare()
        child = self.login()
        await self.said(child, "paste it here")
        child.transport.write(b"4/invented\n")
        self.assertIn("invalid_grant", await self.end(child, 1))
        self.nothing_saved()

    async def test_failure_behind_the_redirect_reaches_the_page(self) -> None:
        """The page is not told of success before there is some."""
        await self.prepare()
        await self.google.fault("status", match={"verb": "token"}, code=503)
        child = self.login()
        answer = await self.follow(child, await self.redirect(child))
        self.assertEqual(answer.status, 400)
        self.assertIn("503", await self.end(child, 1))
        self.nothing_saved()

    async def test_nobody_comes(self) -> None:
        """The wait has an end."""
        await self.prepare()
        child = self.login("--timeout", "0.2")
        self.assertIn("Nobody signed in", await self.end(child, 1))
        self.nothing_saved()

    async def test_interrupt_gives_up(self) -> None:
        """Ctrl-C is no success."""
        await self.prepare()
        child = self.login()
        await self.said(child, "paste it here")
        child.signal("INT")
        self.assertIn("Given up", await self.end(child, 1))
        self.nothing_saved()

    async def test_configuration_that_cannot_sign_in_is_status_78(self) -> None:
        """No file, no upstream of the kind, two of them, an unknown name, and account files that others may read."""
        both = {"one": pool("http://127.0.0.1:1"), "two": pool("http://127.0.0.1:1", credentials_dir="other")}
        self.config, _ = self.configured({"studio": aistudio("http://127.0.0.1:1")})
        self.assertIn("codeassist", await self.end(self.login(), 78))
        self.config, _ = self.configured(both)
        self.assertIn("--upstream: one, two", await self.end(self.login(), 78))
        self.assertIn("'three'", await self.end(self.login("--upstream", "three"), 78))
        self.config, self.port = self.configured({"one": both["one"]})
        self.accounts.mkdir(parents=True, mode=0o755)
        self.assertIn("chmod 700", await self.end(self.login(), 78))
        self.assertIn("--config", await self.end(self.command("login"), 78))
        self.config = self.home / "missing.yaml"
        self.assertIn("missing.yaml", await self.end(self.login(), 78))


class CommandTests(LoginCase):
    """The command line itself."""

    async def test_check_is_twistds(self) -> None:
        """The same text and the same statuses as ``twistd antigravity --check``."""
        config, _ = self.configured({"studio": aistudio("http://127.0.0.1:1")})
        ours = self.command("check", "--config", str(config))
        await self.end(ours, 0)
        theirs = await self.run_to_end("antigravity", "--check", "--config", str(config))
        self.assertEqual((ours.stdout, theirs.exit_code), (theirs.stdout, 0))
        secret(self.home / "bad.yaml", "proxyy: {}")
        self.assertIn("proxyy", await self.end(self.command("check", "--config", "bad.yaml"), 78))

    async def test_misuse_is_one_line_and_status_1(self) -> None:
        """No command, an unknown one, an unknown option, and a waiting time that is none."""
        for arguments in ((), ("fly",), ("login", "--fast"), ("login", "--timeout", "0"), ("login", "--timeout", "x")):
            child = self.command(*arguments)
            printed = await self.end(child, 1)
            self.assertEqual(len(printed.splitlines()), 1, printed)

    async def test_version_and_help_are_ours(self) -> None:
        """The gateway's version, also behind a command; help names the commands."""
        for arguments in (("--version",), ("login", "--version"), ("check", "--version")):
            self.assertIn("antigravity-gateway ", await self.end(self.command(*arguments), 0))
        self.assertIn("login", await self.end(self.command("--help"), 0))

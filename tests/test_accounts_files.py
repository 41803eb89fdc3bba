"""``antigravity accounts add``, ``import``, ``export`` and ``remove`` as processes."""

from __future__ import annotations

import json
import stat

from tests.clients.daemon import secret
from tests.operator import OperatorCase
from tests.processes import GENERATE, prompt

EMAIL = "robot@its-project.iam.gserviceaccount.com"


class FileCommandTests(OperatorCase):
    """Credentials as files, with a daemon that keeps them and without."""

    async def test_added_key_serves_a_running_daemon_until_it_is_removed(self) -> None:
        """The key is on no command line, and in a file of 0600."""
        await self.prepare()
        daemon = await self.daemon()
        await self.accounts("disable", "good-1", "good-2", "ann", "bob@b.example")
        secret(self.home / "key", "good-9\n")
        printed = await self.accounts("add", "fresh", "--key-file", "key", "--project", "p-9")
        path = self.state / "credentials" / "studio" / "fresh.json"
        self.assertIn(f"Added studio/fresh in {path}.", printed)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(json.loads(path.read_bytes()), {"name": "fresh", "project": "p-9", "api_key": "good-9"})
        self.assertIn("studio/fresh", await self.rows())
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual(answer.headers["x-antigravity-credential"], "studio/fresh")
        self.assertEqual((await self.google.credentials())[-1], "good-9")
        self.assertIn("Renewed studio/fresh", await self.accounts("add", "fresh", "-k", "key"))
        self.assertIn("Removed studio/fresh.", await self.accounts("remove", "fresh"))
        self.assertNotIn("studio/fresh", await self.rows())
        self.assertFalse(path.exists())

    async def test_upstream_may_live_from_files_alone(self) -> None:
        """A service account that was added is all that there is."""
        await self.prepare()
        order = {"email": EMAIL, "project": "its-project", "token_url": self.google.url + "/token"}
        secret(self.home / "sa.json", json.dumps(await self.google.control("POST", "service-accounts", order)))
        cloud = {"kind": "vertex", "base_urls": [self.google.url], "credentials_dir": "cloud"}
        self.config, self.port = self.configured({"cloud": cloud})
        self.assertIn("There is no credential yet.", await self.accounts("list"))
        await self.accounts("add", "robot", "--service-account", "sa.json")
        self.assertIn("cloud/robot works", await self.accounts("test", "robot"))
        daemon = await self.daemon()
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
        self.assertNotIn("PRIVATE", daemon.printed)

    async def test_export_is_what_import_takes(self) -> None:
        """0600, never over another file, with a warning; and it comes in again elsewhere."""
        await self.prepare()
        printed = await self.accounts("export", "--output", "out.json")
        self.assertIn("Wrote 2 accounts to out.json.", printed)
        self.assertIn("refresh tokens in clear", printed)
        path = self.home / "out.json"
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        document = json.loads(path.read_bytes())
        self.assertEqual(
            document["accounts"],
            [
                {"name": "ann", "project": "project-a", "refresh_token": "1//sim-ann"},
                {"email": "bob@b.example", "project": "project-b", "refresh_token": "1//sim-bob"},
            ],
        )
        printed = await self.accounts("export", "--output", "out.json", status=1)
        self.assertIn("is not overwritten", printed)
        self.assertIn("export takes --output FILE", await self.accounts("export", status=1))
        child = self.begun("accounts", "export", "--output", "-")
        await child.ended()
        self.assertEqual(json.loads(child.stdout), document)
        await self.accounts("remove", "ann", "pool/bob@b.example")
        self.assertNotIn("pool/", await self.accounts("list"))
        self.assertIn("Added pool/ann", await self.accounts("import", "out.json"))
        self.assertIn("pool/ann works", await self.accounts("test", "ann"))
        self.assertIn("Renewed pool/bob@b.example", await self.accounts("import", "out.json"))

    async def test_bare_list_is_imported_into_a_running_daemon(self) -> None:
        """As other programs write it; an account without any name spoils it all."""
        await self.prepare()
        daemon = await self.daemon()
        one = {"email": "new@b.example", "refresh_token": "1//sim-new", "project": "p"}
        (self.home / "bare.json").write_text(json.dumps([one]))
        rows = json.loads(await self.accounts("import", "bare.json", "--json"))["accounts"]
        self.assertEqual([(row["name"], row["renewed"]) for row in rows], [("new@b.example", False)])
        self.assertIn("pool/new@b.example", await self.rows())
        self.assertIn("added pool/", daemon.printed)
        self.assertNotIn("new@b.example", daemon.printed)
        (self.home / "bare.json").write_text(json.dumps([one, {"refresh_token": "x"}]))
        self.assertIn("account 2 has neither", await self.accounts("import", "bare.json", status=1))
        (self.home / "bare.json").write_text("1//sim-secret")
        self.assertIn("cannot be read as JSON", await self.accounts("import", "bare.json", status=1))

    async def test_terms_are_set_shown_and_followed_by_a_running_daemon(self) -> None:
        """Of a key and an account: at once, over a renewal, and until they are taken back."""
        await self.prepare()
        daemon = await self.daemon()
        key = self.home / "third.key"
        secret(key, "good-1")
        await self.accounts("add", "third", "--key-file", str(key), "--priority", "5", "--weight", "2")
        printed = await self.accounts("set", "ann", "third", "--priority", "-1", "--max-concurrent", "8")
        self.assertIn("pool/ann: priority -1, max_concurrent 8.", printed)
        rows = await self.rows()
        told = {name: (row["weight"], row["priority"], row["max_concurrent"]) for name, row in rows.items()}
        self.assertEqual((told["studio/third"], told["pool/ann"]), ((2.0, -1, 8), (1.0, -1, 8)))
        self.assertEqual(told["pool/bob@b.example"], (1.0, 0, 0))
        self.assertRegex(await self.accounts("list"), r"studio/third .* weight 2, priority -1, at most 8 at a time")
        await self.accounts("disable", "third")
        for _ in range(4):
            answer = await daemon.ask(GENERATE, prompt())
            self.assertEqual(answer.headers["x-antigravity-credential"], rows["pool/ann"]["label"])
        await self.accounts("add", "third", "--key-file", str(key))
        await self.accounts("set", "ann", "--priority", "default", "--max-concurrent", "default")
        document = json.loads((self.state / "accounts" / "ann.json").read_bytes())
        self.assertEqual(set(document), {"name", "refresh_token", "project"})
        kept = json.loads((self.state / "credentials" / "studio" / "third.json").read_bytes())
        self.assertEqual((kept["weight"], kept["priority"], kept["max_concurrent"]), (2, -1, 8))
        await self.accounts("set", "ann", "--weight", "4")
        await self.accounts("export", "--output", "backup.json")
        entries = {entry["name"]: entry for entry in json.loads((self.home / "backup.json").read_bytes())["accounts"]
                   if "name" in entry}  # fmt: skip
        self.assertEqual(entries["ann"]["weight"], 4)
        for wrong, why in (
            (("set", "ann"), "set takes --weight, --priority or --max-concurrent"),
            (("set", "ann", "--weight", "0"), "`weight` must be a number above 0"),
            (("set", "ann", "--priority", "much"), "`priority` must be a whole number"),
            (("set", "good-1", "--weight", "2"), "write them there, and restart the gateway"),
        ):
            self.assertIn(why, await self.accounts(*wrong, status=1))

    async def test_what_cannot_be_done_is_told_in_a_sentence(self) -> None:
        """Status 1, and nothing is changed."""
        await self.prepare()
        self.assertIn("studio/good-1 stands in", await self.accounts("remove", "good-1", "ann", status=1))
        self.assertIn("no credential 'x'", await self.accounts("remove", "x", status=1))
        self.assertIn("add takes --key-file or --service-account", await self.accounts("add", "x", status=1))
        secret(self.home / "key", "a key")
        self.assertIn("characters that no key has", await self.accounts("add", "x", "-k", "key", status=1))
        self.assertIn("nowhere: No such file", await self.accounts("add", "x", "-k", "nowhere", status=1))
        self.assertIn("has a credential studio/good-1", await self.accounts("add", "good-1", "-k", "key", status=1))
        printed = await self.accounts("add", "x", "-s", "key", status=1)
        self.assertIn("No upstream is of kind vertex", printed)
        printed = await self.accounts("import", "key", "--upstream", "x", status=1)
        self.assertIn("'x' is no upstream of kind codeassist", printed)
        self.assertEqual(set(await self.rows()), {"studio/good-1", "studio/good-2", "pool/ann", "pool/bob@b.example"})

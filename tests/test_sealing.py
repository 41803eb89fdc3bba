"""Account files at rest: what the envelope hides, what it refuses, and what is written with a key and without."""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode, urlsafe_b64encode
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.sealing import Seal, SealError, seal_of
from gateway.accounts.store import StoreError, load, save_account, save_project, save_refresh_token
from gateway.calls import Secret
from gateway.config import ConfigError
from gateway.config import load as load_config

KEY = bytes(range(32))
OTHER = bytes(32)


def seal(key: bytes = KEY, random: Any = os.urandom) -> Seal:
    return Seal(Secret(key.hex()), random)


class EnvelopeTests(SynchronousTestCase):
    """The envelope itself."""

    def test_what_is_sealed_opens_again(self) -> None:
        """Under the same name, with the same key; nothing of it is to be seen in between."""
        closed = seal().close("a.json", b'{"refresh_token":"hush"}')
        self.assertNotIn(b"hush", closed)
        self.assertNotIn(b64encode(b"hush")[:4], closed)
        self.assertEqual(set(json.loads(closed)), {"sealed", "nonce", "data"})
        self.assertEqual(seal().open("a.json", json.loads(closed)), b'{"refresh_token":"hush"}')

    def test_envelope_is_aes_256_gcm_as_others_know_it(self) -> None:
        """S9: the standard's construction, so that an operator can open a file without the gateway."""
        document = json.loads(seal(random=lambda count: b"n" * count).close("a.json", b"content"))
        self.assertEqual(document["sealed"], 1)
        nonce, data = b64decode(document["nonce"]), b64decode(document["data"])
        self.assertEqual((nonce, len(data)), (b"n" * 12, len(b"content") + 16))
        opened = AESGCM(KEY).decrypt(nonce, data, b"antigravity-gateway account 1\0a.json")
        self.assertEqual(opened, b"content")

    def test_every_write_has_a_nonce_of_its_own(self) -> None:
        """S9: never a fixed nonce: two envelopes of one content share neither nonce nor data."""
        one, two = (json.loads(seal().close("a.json", b"same")) for _ in range(2))
        self.assertNotEqual(one["nonce"], two["nonce"])
        self.assertNotEqual(one["data"], two["data"])

    def test_envelope_of_another_file_is_refused(self) -> None:
        """Who may write into the directory cannot give one account another's token."""
        closed = json.loads(seal().close("a.json", b"{}"))
        self.assertIn("was renamed", str(self.assertRaises(SealError, seal().open, "b.json", closed)))

    def test_wrong_key_is_refused(self) -> None:
        """And the cure is said."""
        closed = json.loads(seal().close("a.json", b"{}"))
        said = str(self.assertRaises(SealError, seal(OTHER).open, "a.json", closed))
        self.assertIn("another key", said)
        self.assertIn("credentials_key_file", said)

    @given(st.integers(0, 10_000), st.sampled_from(["nonce", "data"]))
    @settings(deadline=None)
    def test_every_flipped_bit_is_noticed(self, place: int, part: str) -> None:
        """P11: a damaged file is refused and never misread."""
        document = json.loads(seal().close("a.json", b'{"refresh_token":"r"}'))
        damaged = bytearray(b64decode(document[part]))
        damaged[place // 8 % len(damaged)] ^= 1 << place % 8
        document[part] = b64encode(damaged).decode()
        self.assertRaises(SealError, seal().open, "a.json", document)

    def test_what_is_no_envelope_is_refused(self) -> None:
        """Members that lack or are of the wrong kind; a newer format names its own cure."""
        good = json.loads(seal().close("a.json", b"{}"))
        table = [
            ({**good, "sealed": 2}, "newer version"),
            ({**good, "sealed": 10**30}, "newer version"),
            ({**good, "sealed": 0}, "no envelope of ours"),
            ({**good, "sealed": True, "nonce": 1}, "no envelope of ours"),
            ({**good, "sealed": None}, "no envelope of ours"),
            ({**good, "sealed": "2"}, "no envelope of ours"),
            ({**good, "nonce": b64encode(b"short").decode()}, "wrong length"),
            ({**good, "nonce": ""}, "wrong length"),
            ({**good, "nonce": 12}, "no envelope of ours"),
            ({**good, "data": "!"}, "no envelope of ours"),
            ({**good, "data": "é"}, "no envelope of ours"),
            ({**good, "data": ""}, "another key"),
            ({"sealed": 1}, "no envelope of ours"),
        ]
        for document, said in table:
            self.assertIn(said, str(self.assertRaises(SealError, seal().open, "a.json", document)), repr(document))

    def test_seal_does_not_show_its_key(self) -> None:
        """Its repr goes into logs."""
        self.assertNotIn(KEY.hex(), repr(seal()))

    def test_no_key_is_no_seal(self) -> None:
        """Encryption is the operator's choice."""
        self.assertIsNone(seal_of(None))
        self.assertIsNotNone(seal_of(Secret(KEY.hex())))


class StoreTests(SynchronousTestCase):
    """Account files with a key."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir(0o700)

    def put(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path

    def test_plain_file_is_read_and_sealed_at_the_next_write(self) -> None:
        """A key may be set at any time; what a file had besides is kept."""
        path = self.put("a.json", b'{"refresh_token":"first","note":"mine"}')
        (account,) = load(self.directory, seal())
        self.assertEqual(account.refresh_token, Secret("first"))
        save_refresh_token(account, Secret("second"), seal())
        self.assertNotIn(b"second", path.read_bytes())
        self.assertNotIn(b"mine", path.read_bytes())
        self.assertEqual(load(self.directory, seal())[0].refresh_token, Secret("second"))
        opened = json.loads(seal().open("a.json", json.loads(path.read_bytes())))
        self.assertEqual(opened, {"refresh_token": "second", "note": "mine"})

    def test_new_account_is_sealed(self) -> None:
        """From its first write on, and again when it is signed in again."""
        account, replaced = save_account(self.directory, "a", Secret("first"), "p", seal=seal())
        self.assertFalse(replaced)
        assert account.path is not None
        self.assertNotIn(b"first", account.path.read_bytes())
        _, replaced = save_account(self.directory, "a", Secret("second"), "", seal=seal())
        self.assertTrue(replaced)
        (found,) = load(self.directory, seal())
        self.assertEqual((found.refresh_token, found.project), (Secret("second"), "p"))

    def test_project_is_saved_into_a_sealed_file(self) -> None:
        """What discovery finds goes the same way as a rotated token."""
        account, _ = save_account(self.directory, "a", Secret("r"), "", seal=seal())
        save_project(account, "found", seal())
        (found,) = load(self.directory, seal())
        self.assertEqual((found.refresh_token, found.project), (Secret("r"), "found"))

    def test_list_of_accounts_is_sealed_as_a_whole(self) -> None:
        """Neighbours' tokens are not left in clear."""
        path = self.put("a.json", b'{"accounts":[{"email":"x","refresh_token":"one"},{"refresh_token":"two"}]}')
        save_refresh_token(load(self.directory, seal())[0], Secret("new"), seal())
        self.assertNotIn(b"two", path.read_bytes())
        self.assertEqual([a.refresh_token.reveal() for a in load(self.directory, seal())], ["new", "two"])

    def test_sealed_file_without_its_key_is_refused(self) -> None:
        """The message names the file and the cure; the file stays as it is."""
        account, _ = save_account(self.directory, "a", Secret("hush"), "p", seal=seal())
        assert account.path is not None
        before = account.path.read_bytes()
        for key, cure in ((None, "write credentials_key_file"), (seal(OTHER), "another key")):
            said = str(self.assertRaises(StoreError, load, self.directory, key))
            self.assertIn(cure, said)
            self.assertIn(str(account.path), said)
            self.assertNotIn("hush", said)
            self.assertRaises(StoreError, save_refresh_token, account, Secret("new"), key)
        self.assertEqual(account.path.read_bytes(), before)

    def test_what_a_seal_hides_may_be_damaged_too(self) -> None:
        """An envelope around something that is no account is a StoreError like any."""
        for content in (b"{", b"7", b"{}", b"\xff"):
            self.put("a.json", seal().close("a.json", content))
            self.assertRaises(StoreError, load, self.directory, seal())


class KeyFileTests(SynchronousTestCase):
    """``credentials_key_file``."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(0o700)
        self.file = self.directory / "key"

    def write(self, content: bytes, mode: int = 0o600) -> None:
        self.file.write_bytes(content)
        self.file.chmod(mode)

    def key(self, **environ: str) -> Secret | None:
        upstream = (
            "upstreams: {pool: {kind: codeassist, oauth: {client_id: a, client_secret: b},"
            f" credentials_key_file: '{self.file}'}}}}"
        )
        path = self.directory / "antigravity.yaml"
        path.write_text(upstream + f"\nstate_dir: '{self.directory}'\n")
        path.chmod(0o600)
        return load_config(str(path), environ).upstreams[0].credentials_key

    def test_raw_hexadecimal_and_base64_are_the_same_key(self) -> None:
        """As the usual tools write one, with and without an end of line or padding."""
        key = bytes(range(224, 256))
        plain, url = b64encode(key), urlsafe_b64encode(key)
        forms = [
            key, key.hex().encode(), key.hex().upper().encode() + b"\n", plain, plain + b"\n", plain.rstrip(b"="),
            url, url.rstrip(b"=") + b"\r\n",
        ]  # fmt: skip
        for form in forms:
            self.write(form)
            self.assertEqual(self.key(), Secret(key.hex()), repr(form))

    def test_what_is_no_key_is_refused_with_the_way_to_make_one(self) -> None:
        """A passphrase, a short key and an empty file are none."""
        table = [
            b"", b"\n", b"passphrase", KEY[:31], KEY + b"\0", b"0" * 32, b"a passphrase of 32 characters ok",
            KEY.hex().encode()[:-2], b"\xff" * 33, b64encode(KEY[:16]),
        ]  # fmt: skip
        for content in table:
            self.write(content)
            said = str(self.assertRaises(ConfigError, self.key))
            self.assertIn("credentials_key_file", said, repr(content))
            self.assertIn("openssl rand", said)

    def test_key_that_others_may_read_is_refused(self) -> None:
        """P10: unless systemd guards it."""
        self.write(KEY, 0o644)
        self.assertIn("chmod 600", str(self.assertRaises(ConfigError, self.key)))
        self.assertEqual(self.key(CREDENTIALS_DIRECTORY=str(self.directory)), Secret(KEY.hex()))

    def test_no_key_is_the_default(self) -> None:
        """Empty is as if it were not there."""
        self.file = Path("")
        path = self.directory / "antigravity.yaml"
        for line in ("", "credentials_key_file: '',"):
            path.write_text(
                f"upstreams: {{pool: {{kind: codeassist, {line} oauth: {{client_id: a, client_secret: b}}}}}}\n"
                f"state_dir: '{self.directory}'\n"
            )
            path.chmod(0o600)
            self.assertIsNone(load_config(str(path), {}).upstreams[0].credentials_key)

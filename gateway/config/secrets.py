"""Where secrets and state lie: in the file, in the environment, in a file of their own.  Reads files."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from collections.abc import Mapping

from gateway.calls import Secret
from gateway.config.errors import ConfigError
from gateway.config.nodes import Context, Fields, Node

_VISIBLE = re.compile(r"[\x21-\x7e]+\Z")
_DIGEST = re.compile(r"sha256:([0-9A-Fa-f]{64})\Z")
_SECRET_FILE_LIMIT = 64 * 1024
_NAME = "antigravity-gateway"
_SEALING_KEY_BYTES = 32
_TYPED = re.compile(rb"[\x20-\x7e]*\Z")
"""What somebody typed, or the digits of a shorter key; of random bytes next to none are."""
_HEXADECIMAL = re.compile(rb"[0-9A-Fa-f]{64}\Z")
_STANDARD = bytes.maketrans(b"-_", b"+/")
"""From the alphabet of base64 for URLs."""


def secret(owner: Node, fields: Fields, stem: str) -> Secret:
    """Return the secret that exactly one of ``stem``, ``stem_env`` and ``stem_file`` gives."""
    names = (stem, f"{stem}_env", f"{stem}_file")
    given = [fields[name] for name in names if name in fields and fields[name].value != ""]
    if len(given) != 1:
        problem = "none is given" if not given else f"{len(given)} are given"
        raise owner.error(f"{problem} of {', '.join(names)}", "write exactly one of them")
    node = given[0]
    if node is fields.get(names[0]):
        node.context.clear_secrets.append(node.path)
        value, origin = node.text(), "the value"
    elif node is fields.get(names[1]):
        variable = node.text()
        value, origin = node.context.environ.get(variable, "").strip(), f"${variable}"
        if not value:
            raise node.error(f"{origin} is not set", "set it in the daemon's environment, or name another")
    else:
        value, origin = _from_file(node), "the file"
    if not _VISIBLE.match(value):
        raise node.error(
            f"{origin} holds characters that no key has", "give the key alone, in printable ASCII without spaces"
        )
    return Secret(value)


def digests(node: Node) -> tuple[bytes, ...]:
    """Return the SHA-256 of the client key that is given, in clear or as ``sha256:<hex>``; nothing for none."""
    text = node.text().strip()
    if not text:
        return ()
    if text.startswith("sha256:"):
        match = _DIGEST.match(text)
        if not match:
            raise node.error("this is no SHA-256 digest", "write sha256: and 64 hexadecimal digits")
        return (bytes.fromhex(match[1]),)
    if not _VISIBLE.match(text):
        raise node.error(
            "this key cannot travel in a header", "choose one of printable ASCII characters without spaces"
        )
    node.context.clear_secrets.append(node.path)
    return (hashlib.sha256(text.encode("ascii")).digest(),)


def located(context: Context, text: str) -> str:
    """Return an absolute path; relative ones start at the configuration file's directory."""
    home = context.environ.get("HOME", "")
    if home and (text == "~" or text.startswith("~/")):
        text = home + text[1:]
    return os.path.abspath(os.path.join(context.directory, text))


def default_state_dir(environ: Mapping[str, str], source: str) -> str:
    """Return where state is kept when the configuration does not say.

    systemd's ``$STATE_DIRECTORY``, else the XDG Base Directory Specification's place for state.
    """
    systemd = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if os.path.isabs(systemd):
        # With DynamicUser= it is a link of systemd's; whoever else makes links of a state directory is refused.
        return os.path.realpath(systemd)
    for variable, below in (("XDG_STATE_HOME", ""), ("HOME", ".local/state")):
        base = environ.get(variable, "")
        # The specification has relative values ignored.
        if os.path.isabs(base):
            return os.path.normpath(os.path.join(base, below, _NAME))
    raise ConfigError(
        source,
        "state_dir",
        "there is no home directory to keep state in",
        "write state_dir, or set $STATE_DIRECTORY or $HOME",
    )


def open_to_others(mode: int) -> bool:
    """Say whether others than the owner may read or write a file of this mode."""
    return os.name == "posix" and bool(mode & (stat.S_IRWXG | stat.S_IRWXO))


def guarded(node: Node) -> tuple[str, bytes]:
    """Return the path and the content of a file that the user of the daemon alone may read.

    Files below ``$CREDENTIALS_DIRECTORY`` are systemd's to guard: it gives them an owner and a mode of its own
    (systemd.exec(5), LoadCredential=).
    """
    path = located(node.context, node.text())
    try:
        with open(path, "rb") as file:
            if open_to_others(os.fstat(file.fileno()).st_mode) and not _is_systemds(node.context, path):
                raise node.error(f"others may read {path}", f"run: chmod 600 {path}")
            return path, file.read(_SECRET_FILE_LIMIT + 1)
    except OSError as error:
        raise node.error(f"{path} cannot be read ({error.strerror})", "name a file that the daemon may read") from None


def sealing_key(node: Node) -> Secret:
    """Return the 32 bytes, in hexadecimal, of a key file that holds them raw, in hexadecimal or in base64."""
    path, data = guarded(node)
    key = data if len(data) == _SEALING_KEY_BYTES and not _TYPED.match(data) else _decoded(data.strip())
    if len(key) != _SEALING_KEY_BYTES:
        raise node.error(
            f"{path} holds no key of {_SEALING_KEY_BYTES} bytes, raw, in hexadecimal or in base64",
            f"make one: (umask 077; openssl rand -base64 {_SEALING_KEY_BYTES} > {path})",
        )
    return Secret(key.hex())


def _decoded(text: bytes) -> bytes:
    if _HEXADECIMAL.match(text):
        return bytes.fromhex(text.decode("ascii"))
    try:
        return base64.b64decode(text.translate(_STANDARD) + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        return b""


def _is_systemds(context: Context, path: str) -> bool:
    directory = context.environ.get("CREDENTIALS_DIRECTORY", "")
    if not os.path.isabs(directory):
        return False
    # A link in that directory may lead out of it.
    directory = os.path.realpath(directory)
    return os.path.commonpath((directory, os.path.realpath(path))) == directory


def _from_file(node: Node) -> str:
    path, data = guarded(node)
    try:
        text = data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        text = "\0"
    if not text or len(data) > _SECRET_FILE_LIMIT:
        raise node.error(f"{path} holds no key", "write the key into it, alone on one line")
    return text

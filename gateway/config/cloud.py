"""What a ``vertex`` upstream is given: a location, service accounts, application defaults.  Reads key files."""

from __future__ import annotations

import re

import msgspec

from gateway.calls import Secret
from gateway.config.errors import shown
from gateway.config.nodes import Fields, Node
from gateway.config.secrets import guarded
from gateway.config.urls import base_url
from gateway.config.values import CloudCredentialConfig, ServiceAccountConfig

DEFAULT_LOCATION = "global"
ADC_MODULES = ("google.auth", "requests")
"""What application default credentials need: the extra ``adc``."""

_LOCATION = re.compile(r"[a-z0-9-]+\Z")
_PROJECT = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9.:_-]+\Z")
_WAYS = ("service_account_file", "application_default")
_NEW_KEY = "make a key of type JSON for the service account in the Google Cloud console"


class _KeyFile(msgspec.Struct):
    type: str = ""
    client_email: str = ""
    private_key: str = ""
    private_key_id: str = ""
    token_uri: str = ""
    project_id: str = ""


_KEY_FILE = msgspec.json.Decoder(_KeyFile)


def location(node: Node) -> str:
    """Return ``global`` or a region."""
    return node.match(_LOCATION, "global, or a region such as europe-west4")


def base_url_of(location: str) -> str:
    """Return where a location's Vertex AI is."""
    return "https://" + ("" if location == DEFAULT_LOCATION else f"{location}-") + "aiplatform.googleapis.com"


def credential(name: str, item: Node, members: Fields) -> CloudCredentialConfig:
    """Return one credential: exactly one of a service account and application default credentials."""
    given = [way for way in _WAYS if way in members and members[way].value not in ("", False)]
    if len(given) != 1:
        problem = "none is given" if not given else f"{len(given)} are given"
        raise item.error(f"{problem} of {', '.join(_WAYS)}", "write exactly one of them")
    project = ""
    if "project" in members and members["project"].value != "":
        project = members["project"].match(_PROJECT, "a Google project id")
    if given == ["service_account_file"]:
        node = members["service_account_file"]
        account = service_account(node)
        if not project and not account.project:
            raise item.error("neither it nor its key file names a project", "write project: and the Google project id")
        return CloudCredentialConfig(name, project or account.project, account)
    node = members["application_default"]
    if node.value is not True:
        raise node.error("this is neither true nor false", "write application_default: true")
    if not all(map(item.context.installed, ADC_MODULES)):
        raise node.error(
            "application default credentials need google-auth, which is not installed",
            "install the gateway with its extra: pip install 'antigravity-gateway[adc]'",
        )
    if not project:
        raise item.error("it has no project", "write project: and the id of the Google project to use")
    return CloudCredentialConfig(name, project)


def service_account(node: Node) -> ServiceAccountConfig:
    """Return what the key file says that ``node`` names."""
    return service_account_in(node, *guarded(node))


def service_account_in(node: Node, path: str, data: bytes) -> ServiceAccountConfig:
    """Return what a key file's content says; ``node`` is where errors are placed."""
    try:
        file = _KEY_FILE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # What msgspec says may quote the file.
        raise node.error(f"{path} is no JSON object of texts, as a key file is", _NEW_KEY) from None
    if file.type != "service_account":
        problem = f"is of type {shown(file.type)!r}, not 'service_account'" if file.type else "has no `type`"
        raise node.error(
            f"{path} {problem}", f"{_NEW_KEY}; for other types, write application_default: true instead"
        )
    for name in ("client_email", "private_key", "token_uri"):
        if not getattr(file, name).strip():
            raise node.error(f"{path} has no `{name}`", _NEW_KEY)
    if not _is_rsa(file.private_key):
        raise node.error(f"the `private_key` in {path} is no RSA key in PEM", _NEW_KEY)
    if file.project_id and not _PROJECT.match(file.project_id):
        raise node.error(f"the `project_id` in {path} is none", _NEW_KEY)
    token_url = base_url(Node(node.context, f"{node.path}: {path}: token_uri", file.token_uri))
    return ServiceAccountConfig(
        file.client_email.strip(), Secret(file.private_key), file.private_key_id, token_url, file.project_id
    )


def _is_rsa(pem: str) -> bool:
    # Loaded only where there is such an upstream.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return isinstance(load_pem_private_key(pem.encode("utf-8"), None), RSAPrivateKey)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False

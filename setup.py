"""Package the gateway, its twistd plugin and the example configuration."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (HERE / "gateway" / "__init__.py").read_text("utf-8"))
assert VERSION is not None

setup(
    name="antigravity-gateway",
    version=VERSION.group(1),
    description="A self-hosted gateway for the Gemini API over a pool of Google credentials",
    long_description=(HERE / "README.rst").read_text("utf-8"),
    long_description_content_type="text/x-rst",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # Without package_dir an editable install does not put twisted/plugins on the path.
    package_dir={"": "."},
    # twisted/ and twisted/plugins have no __init__.py here: one would overwrite Twisted's own.
    packages=find_packages(include=["gateway", "gateway.*"]) + ["twisted.plugins"],
    package_data={"gateway": ["py.typed", "dashboard/*", "dashboard/vendor/*"], "gateway.edge": ["pages/*"]},
    entry_points={"console_scripts": ["antigravity=gateway.cli:main"]},
    data_files=[
        (
            "share/antigravity-gateway",
            [
                "conf/antigravity.yaml",
                "conf/antigravity.service",
                "conf/antigravity.socket",
                "conf/grafana-dashboard.json",
                "conf/prometheus-rules.yaml",
                "conf/requirements.lock",
            ],
        )
    ],
    install_requires=[
        # 26.4: the request parser's fixes up to then are part of the gateway's door.
        "twisted[tls]>=26.4",
        # 24.9: the first treq that runs on Python 3.13 and takes attrs-based requests.
        "treq>=24.9",
        # 24.8: the first Klein that runs with Werkzeug 3.
        "klein>=24.8",
        # 0.6.4: wheels for Python 3.13; its llhttp refuses the answers that can be read in two ways.
        "httptools>=0.6.4",
        # 24.1: verifies IP addresses as well as names with current cryptography.
        "service-identity>=24.1",
        # 6.0.2: wheels for Python 3.13.
        "pyyaml>=6.0.2",
        # 44.0.1: its wheels' OpenSSL is without CVE-2024-12797; signs service accounts' grants, seals account files.
        "cryptography>=44.0.1",
        # 0.19: wheels for Python 3.13; Raw members carry a client's bytes through unchanged.
        "msgspec>=0.19",
        # 1.4: wheels for Python 3.13; tells with the processor's wide instructions that an image is nothing but base64.
        "pybase64>=1.4",
        # Quotas end at midnight US Pacific, and a slim machine has no time zones of its own.
        "tzdata>=2024.1",
        # 23.1: attrs.frozen with full typing.
        "attrs>=23.1",
        # 23.1: hashes argon2id by the version of the algorithm in RFC 9106; imported by who signs in alone.
        "argon2-cffi>=23.1",
        # 0.21: custom collectors with types; pure Python without dependencies of its own.
        "prometheus_client>=0.21",
    ],
    extras_require={
        "adc": [
            # 2.39: the first that declares Python 3.13; its tokens are fetched through requests.
            "google-auth[requests]>=2.39",
        ],
        "otel": [
            # 1.36: the first whose exporter gives up its tries when it is told to end.
            "opentelemetry-sdk>=1.36",
            "opentelemetry-exporter-otlp-proto-http>=1.36",
            # 2.31: the first that keeps Proxy-Authorization from the wrong host; the exporter sends through it.
            "requests>=2.31",
        ],
        "test": [
            # 6.100: explicit stateful and settings APIs that the suite uses.
            "hypothesis>=6.100",
            # 0.16: a second reader of HTTP, with which ours is compared.
            "h11>=0.16",
            # 1.2: certificates of every kind, made for a test.
            "trustme>=1.2",
            # 0.9: a third reader, Node.js's llhttp, in the release that ours was first compared with.
            "httptools>=0.9",
            # As in `adc`: two tests run the library itself, and are skipped without it.
            "google-auth[requests]>=2.39",
            # As in `otel`: what is sent is read with its own protocol buffers.
            "opentelemetry-sdk>=1.36",
            "opentelemetry-exporter-otlp-proto-http>=1.36",
        ],
        "browser": [
            # 1.49: drives the Chromium that Debian has; no browser of its own is fetched.
            "playwright>=1.49",
            # 4.0: checks answers by OpenAPI 3.1.
            "schemathesis>=4.0",
        ],
        "fuzz": [
            # 3.0: wheels for CPython 3.11 and later; on Linux alone, so it is no part of `develop`.
            "atheris>=3.0",
        ],
        "develop": [
            "build>=1.2",
            "docutils>=0.21",
            "pygments>=2.17",
            "mypy>=1.15",
            "mypy-zope>=1.0.9",
            "pip-tools>=7.4",
            "ruff>=0.9",
            "types-PyYAML>=6.0.12",
        ],
    },
    classifiers=[
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
    ],
)

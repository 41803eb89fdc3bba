"""Configurations of nginx and HAProxy as plain reverse proxies for the bench.  Pure."""

from __future__ import annotations

import certificates
import shapes

_NGINX = """
daemon off;
pid {directory}/nginx.pid;
error_log stderr warn;
worker_processes 1;
worker_rlimit_nofile {files};
events {{ worker_connections {files}; }}
http {{
    access_log off;
    client_max_body_size 100m;
    client_body_temp_path {directory}/nginx-body;
    proxy_temp_path {directory}/nginx-proxy;
    fastcgi_temp_path {directory}/nginx-fastcgi;
    uwsgi_temp_path {directory}/nginx-uwsgi;
    scgi_temp_path {directory}/nginx-scgi;
    keepalive_requests 100000000;
    upstream model {{
        server 127.0.0.1:{upstream_port};
        keepalive 1024;
        keepalive_requests 100000000;
    }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header X-Goog-Api-Key "{upstream_key}";
    proxy_request_buffering off;
    {tls}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        if ($http_x_goog_api_key != "{client_key}") {{ return 401; }}
        location / {{ proxy_pass {scheme}://model; }}
        location ~ :streamGenerateContent$ {{ proxy_buffering off; proxy_pass {scheme}://model; }}
    }}
}}
"""
_NGINX_TLS = """
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate {authority};
    proxy_ssl_server_name on;
    proxy_ssl_name {host};
"""
_HAPROXY = """
global
    nbthread 1
    maxconn {most}
defaults
    mode http
    maxconn {most}
    timeout connect 10s
    timeout client 120s
    timeout server 120s
    timeout http-keep-alive 120s
    http-reuse always
    option http-no-delay
frontend clients
    bind 127.0.0.1:{port} backlog 4096
    http-request deny deny_status 401 unless {{ req.hdr(x-goog-api-key) -m str {client_key} }}
    http-request set-header x-goog-api-key {upstream_key}
    default_backend model
backend model
    server model 127.0.0.1:{upstream_port} {tls}
"""
_HAPROXY_TLS = "ssl verify required ca-file {authority} sni str({host}) verifyhost {host}"


def nginx(port: int, upstream_port: int, directory: str, authority: str | None, files: int) -> str:
    """Return a configuration of one worker; with an ``authority`` upstream is asked over TLS."""
    return _NGINX.format(
        port=port,
        upstream_port=upstream_port,
        directory=directory,
        files=files,
        scheme="https" if authority else "http",
        tls=_NGINX_TLS.format(authority=authority, host=certificates.HOST) if authority else "",
        client_key=shapes.CLIENT_KEY,
        upstream_key=shapes.UPSTREAM_KEY,
    )


def haproxy(port: int, upstream_port: int, authority: str | None, files: int) -> str:
    """Return a configuration of one thread; with an ``authority`` upstream is asked over TLS."""
    return _HAPROXY.format(
        port=port,
        upstream_port=upstream_port,
        most=(files - 100) // 2,
        tls=_HAPROXY_TLS.format(authority=authority, host=certificates.HOST) if authority else "",
        client_key=shapes.CLIENT_KEY,
        upstream_key=shapes.UPSTREAM_KEY,
    )

"""Print the configuration of an Envoy that verifies our tokens: envoy.yaml, filled in from the issuer's metadata.

::

    python configure.py --issuer https://issuer.prod.example --audience https://ledger.prod.example --scope ledger.read
"""

import argparse
import json
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

import httpx

TEMPLATE = Path(__file__).with_name("envoy.yaml")


def jwks_uri(issuer: str) -> str:
    """Return where an issuer's keys are, from its metadata (RFC 8414 section 3)."""
    url = httpx.URL(issuer)
    document = url.copy_with(path="/.well-known/oauth-authorization-server" + url.path.rstrip("/"))
    metadata = httpx.get(document).raise_for_status().json()
    if metadata["issuer"] != issuer:
        raise SystemExit(f"{document} is the metadata of {metadata['issuer']}, not of {issuer}")
    return str(metadata["jwks_uri"])


def tls(host: str, ca: str) -> dict[str, object]:
    """Return how Envoy verifies the issuer's web server."""
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": host,
            "common_tls_context": {
                "validation_context": {
                    "trusted_ca": {"filename": ca},
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": host}}],
                }
            },
        },
    }


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--issuer", required=True, help="the `iss` of its tokens")
    parser.add_argument("--audience", required=True, help="the `aud` of tokens for the API")
    parser.add_argument("--scope", required=True, help="what a token must allow")
    parser.add_argument("--api", required=True, metavar="HOST:PORT", help="what stands behind Envoy")
    parser.add_argument("--port", type=int, default=0, help="where Envoy listens on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--ca", default="/etc/ssl/certs/ca-certificates.crt", help="who certifies web servers")
    given = parser.parse_args()
    keys = urlsplit(jwks_uri(given.issuer))
    host = keys.hostname or ""
    https = keys.scheme == "https"
    api_host, _, api_port = given.api.rpartition(":")
    values = {
        **vars(given),
        "api_host": api_host,
        "api_port": int(api_port),
        "jwks_uri": keys.geturl(),
        "jwks_host": host,
        "jwks_port": keys.port or (443 if https else 80),
        "jwks_tls": tls(host, given.ca) if https else None,
    }
    # JSON is YAML too, so that no value can be read as anything but a value.
    print(Template(TEMPLATE.read_text()).substitute({name: json.dumps(value) for name, value in values.items()}))


if __name__ == "__main__":
    main()

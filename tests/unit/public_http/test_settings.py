from pathlib import Path

import pytest

from issuer.public_http.settings import PublicHttpError, PublicHttpSettings

CERTIFICATE, KEY = Path("tls.crt"), Path("tls.key")


def test_speaks_https_with_a_certificate_and_http_without() -> None:
    assert PublicHttpSettings().scheme == "http"
    assert PublicHttpSettings(tls_certificate=CERTIFICATE, tls_key=KEY).scheme == "https"


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"tls_certificate": CERTIFICATE}, "tls_key is missing"),
        ({"tls_key": KEY}, "tls_certificate is missing"),
        ({"tls_certificate": CERTIFICATE, "tls_key": KEY, "behind_tls_proxy": True}, "behind_tls_proxy means plain"),
    ],
)
def test_refuses_what_contradicts_itself(settings: dict[str, object], fault: str) -> None:
    with pytest.raises(PublicHttpError, match=fault):
        PublicHttpSettings(**settings)  # type: ignore[arg-type]

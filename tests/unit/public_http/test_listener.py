import socket
from contextlib import closing
from pathlib import Path

import pytest

from issuer.public_http.listener import open_listener
from issuer.public_http.settings import PublicHttpError, PublicHttpSettings


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_plain_http_is_for_loopback(listen: str) -> None:
    with closing(open_listener(PublicHttpSettings(listen=listen))) as listener:
        assert listener.getsockname()[1] > 0


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_plain_http_for_everyone_is_refused_with_the_ways_out(listen: str) -> None:
    with pytest.raises(PublicHttpError, match=r"plain HTTP.*tls_certificate and tls_key, or behind_tls_proxy = true"):
        open_listener(PublicHttpSettings(listen=listen))


def test_a_name_counts_as_the_address_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(PublicHttpError, match="plain HTTP"):
        open_listener(PublicHttpSettings(listen="localhost:0"))


@pytest.mark.parametrize(
    "settings",
    [
        PublicHttpSettings(listen="0.0.0.0:0", behind_tls_proxy=True),
        PublicHttpSettings(listen="0.0.0.0:0", tls_certificate=Path("tls.crt"), tls_key=Path("tls.key")),
    ],
    ids=["behind-a-proxy", "https"],
)
def test_every_address_may_be_served_where_tls_protects_it(
    settings: PublicHttpSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []
    bind = socket.create_server

    def on_loopback(address: tuple[str, int], **how: int) -> socket.socket:
        asked.append(address)
        return bind(("127.0.0.1", 0), **how)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "create_server", on_loopback)
    open_listener(settings).close()
    assert asked == [("0.0.0.0", 0)]


def test_a_taken_port_is_told_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PublicHttpError) as refusal:
            open_listener(PublicHttpSettings(listen=listen))
    assert str(refusal.value) == (
        f"[http] listen: cannot listen on {listen}: another program listens there: stop it, or choose another port"
    )


@pytest.mark.parametrize("listen", ["127.0.0.1:65536", "127.0.0.1:x", "no-such-host.invalid:0", "8080"])
def test_an_address_that_is_none_is_told(listen: str) -> None:
    with pytest.raises(PublicHttpError, match="cannot listen on"):
        open_listener(PublicHttpSettings(listen=listen))


def test_an_address_of_another_machine_is_told() -> None:
    settings = PublicHttpSettings(listen="192.0.2.1:0", behind_tls_proxy=True)
    with pytest.raises(PublicHttpError, match="no interface of this machine"):
        open_listener(settings)

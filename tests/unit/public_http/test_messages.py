import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.public_http.messages import MAX_LINE_BYTES, ListShown, Report, Setup, State


@given(st.text(), st.booleans(), st.text())
def test_a_state_arrives_as_it_was_in_one_line(jwks: str, ready: bool, reason: str) -> None:  # noqa: FBT001
    state = State(jwks, ready, reason)
    line = state.to_line()
    assert line.index(b"\n") == len(line) - 1
    assert State.from_line(line) == state


@pytest.mark.parametrize(
    "message",
    [
        Setup(3, "{}", ["/a", "/b"], ["/c"], 4, "https://i/l/", ["/l"], 300, None, None),
        Setup(3, "{}", [], [], 4, "", [], 300, "tls.crt", "tls.key"),
        ListShown("7", "a.b.c", 30),
        Report("log", "two\nlines"),
    ],
)
def test_every_message_arrives_as_it_was(message: Setup | ListShown | Report) -> None:
    assert type(message).from_line(message.to_line()) == message


def test_a_set_of_many_keys_fits_into_a_line() -> None:
    assert len(State('{"kty":"EC"}' * 20 * 20, ready=True, reason="").to_line()) < MAX_LINE_BYTES

from issuer.public_http.documents import Board
from issuer.public_http.messages import State


def test_a_state_is_rendered_once_and_not_for_each_answer() -> None:
    board = Board(State("{}", ready=True, reason=""), 300)
    before = board.jwks, board.readiness
    assert (board.jwks, board.readiness) == before
    board.post(State("{}", ready=False, reason="stopping"))
    assert board.readiness is not before[1]

from issuer.core.decision import Denial
from issuer.core.denial_text import explain
from issuer.core.errors import Reason


def denial(reason: Reason, *scopes: str) -> Denial:
    return Denial(reason=reason, scopes=scopes, rule_ids=("secret-rule",), policy_digest="sha256:0")


def test_names_the_refused_scopes_and_never_a_rule() -> None:
    text = explain(denial(Reason.SCOPE_NOT_ALLOWED, "ledger.write", "ledger.refund"))
    assert text.endswith(": ledger.write ledger.refund")
    assert "secret-rule" not in text


def test_has_a_sentence_for_a_reason_it_does_not_know() -> None:
    assert explain(denial(Reason.INTERNAL)) == "policy refuses this request"

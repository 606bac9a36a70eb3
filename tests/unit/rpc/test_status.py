from google.rpc import code_pb2, error_details_pb2

from issuer.core.errors import FieldViolation, InvalidTokenRequest, IssuerError, PolicyDenied, Reason
from issuer.rpc.status import ERROR_DOMAIN, STATUS_CODES, internal_error, status_from_error
from issuer_api.v1 import error_reason_pb2


def test_every_reason_of_the_contract_is_a_reason_of_the_core_and_back() -> None:
    of_the_contract = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118
    assert of_the_contract == {reason.value for reason in Reason} | {"UNSPECIFIED"}


def test_every_reason_has_a_status_code_that_is_an_error() -> None:
    assert STATUS_CODES.keys() == set(Reason)
    assert code_pb2.OK not in STATUS_CODES.values()


def test_an_error_carries_exactly_one_error_info() -> None:
    status = status_from_error(IssuerError(Reason.SVID_EXPIRED, "the SVID has expired"), "r1")
    info = error_details_pb2.ErrorInfo()
    assert len(status.details) == 1
    assert status.details[0].Unpack(info)
    assert (status.code, status.message) == (code_pb2.UNAUTHENTICATED, "the SVID has expired")
    assert (info.reason, info.domain, dict(info.metadata)) == ("SVID_EXPIRED", ERROR_DOMAIN, {"requestId": "r1"})


def test_a_denial_names_the_decision_and_the_scopes() -> None:
    error = PolicyDenied(Reason.SCOPE_NOT_ALLOWED, "no", decision_id="d1", scopes=("a", "b"))
    info = error_details_pb2.ErrorInfo()
    status_from_error(error, "r1").details[0].Unpack(info)
    assert dict(info.metadata) == {"requestId": "r1", "decisionId": "d1", "scopes": "a b"}


def test_a_malformed_request_names_its_fields() -> None:
    error = InvalidTokenRequest((FieldViolation("scopes[1]", "is empty"),))
    bad_request = error_details_pb2.BadRequest()
    status_from_error(error, "r1").details[1].Unpack(bad_request)
    assert [(v.field, v.description) for v in bad_request.field_violations] == [("scopes[1]", "is empty")]


def test_a_fault_of_ours_tells_nothing() -> None:
    assert internal_error().message == "internal error of the issuer"

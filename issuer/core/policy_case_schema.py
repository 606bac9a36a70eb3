"""The JSON Schema (2020-12) of case files (``*.test.yaml``), which :mod:`issuer.core.policy_cases` reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from issuer.core import schema_values as values
from issuer.core.policy_cases import REASONS
from issuer.core.policy_schema import DIALECT
from issuer.core.schema_values import Key, Schema, distinct, mapping, one_of, ref, required, text

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXTS: Final[Schema] = {"type": "array", "items": text()}
_DURATION: Final = text("(?=.)(?:[0-9]{1,5}d)?(?:[0-9]{1,6}h)?(?:[0-9]{1,8}m)?(?:[0-9]{1,9}s)?")
"""Unlike a lifetime in policy, what is left or expected can be nothing: ``0s``."""

KEYS: Final[Mapping[str, Mapping[str, Key]]] = {
    "case": {
        "name": required("what it shows; unique in its file", text()),
        "at": required("when the request is made: a day or a moment, UTC", values.MOMENT),
        "caller": required("the SPIFFE ID of the workload that asks", values.SPIFFE_ID),
        "svid_rest": Key("how long its SVID still lives, 1h unless set", _DURATION),
        "request": required("what IssueToken takes", ref("request")),
        "facts": Key("what is told at that time, and nothing else is", {"type": "array", "items": ref("fact")}),
        "expect": required("what must come of it; only what is written is compared", ref("expect")),
    },
    "request": {
        "audience": required("the API that the token is for", values.AUDIENCE | {"pattern": "^[!-~]+$"}),
        "scopes": required("what is asked for", distinct(values.SCOPE)),
        "application": Key("on whose behalf", values.APPLICATION),
        "ttl": Key("how long a token is asked for", values.DURATION),
        "intent": Key("what the token is for", ref("intent")),
        "grant_type": Key("client_credentials unless set", values.GRANT_TYPE),
        "subject": Key(
            "of whose token of others it is the exchange, as in `subjects` of a grant", values.TOKEN_SUBJECT
        ),
        "allow_partial": Key("whether some of the scopes are welcome too", values.BOOLEAN),
        "bind_certificate": Key("whether to bind the token to the certificate, whatever its risk", values.BOOLEAN),
    },
    "intent": {
        "operation": Key("what will be done", values.INTENT),
        "resource": Key("to what", values.INTENT),
        "workflow": Key("the automation that it is a part of", values.INTENT),
        "ticket": Key("the change ticket", values.INTENT),
        "transaction": Key("the transaction id", values.INTENT),
    },
    "fact": {
        "type": required("a type that policy declares", values.WORD),
        "subject": required("whom or what it is about", text()),
        "values": required("by field, each of its declared type", {"type": "object"}),
        "observed": Key("when it was true; the time of the case unless set", text()),
        "expires": Key("when it ends, if before its age ends it", text()),
        "caller": Key("for whom it was told, where the caller chooses the subject", values.SPIFFE_ID),
        "audience": Key("for which API, where the caller chooses the subject", text()),
    },
    "expect": {
        "outcome": required("whether there is a token", one_of(["granted", "refused"])),
        "reason": Key("why it is refused", one_of([reason.value for reason in REASONS])),
        "scopes": Key("the scopes of the token, in the order of the request", _TEXTS),
        "refused_scopes": Key("the scopes that are left out or refused", _TEXTS),
        "lifetime": Key("how long the token lives", _DURATION),
        "lifetime_rule": Key("the rule, audience, scope or tier that set the lifetime, or svid or request", text()),
        "rules": Key("the grants that gave it, or the rules that came closest", _TEXTS),
        "application": Key("the application in the token", text()),
        "bound": Key("whether the token is bound to the certificate", values.BOOLEAN),
        "missing": Key("the facts and claims that were missing", _TEXTS),
    },
}


def case_schema() -> Schema:
    """Return the schema of one file of cases, as a document of its own."""
    file = {
        "version": required("1, the only version there is", values.VERSION),
        "cases": required("each with its own time and facts", {"type": "array", "items": ref("case")}),
    }
    return {
        "$schema": DIALECT,
        **mapping(file, "Cases of a policy of spiffe-issuer"),
        "description": "Requests at a fixed time with fixed facts, and what must come of them.",
        "$defs": {kind: mapping(keys, kind) for kind, keys in KEYS.items()},
    }

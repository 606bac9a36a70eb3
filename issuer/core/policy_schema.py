"""The JSON Schema (2020-12) of policy files, for editors: completion, words on hover, misspellings marked.

It tells the shape of one file. That names are declared, that dates are in order, and what conditions mean is left to
:mod:`issuer.core.policy_parser`, which alone decides. The words about each key are those of docs/POLICY.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from issuer.core import schema_values as values
from issuer.core.policy import RiskTier
from issuer.core.policy_rules import MAX_QUORUM, MAX_USES, TRUTH
from issuer.core.schema_values import Key, Schema, distinct, mapping, one_of, ref, required, some

if TYPE_CHECKING:
    from collections.abc import Mapping

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_WHO: Final = {
    "workloads": Key("IDs and patterns; at least one of `workloads` and `groups`", distinct(values.WORKLOAD)),
    "groups": Key("names of groups, whose workloads are added", distinct(values.RULE_ID)),
}
_REQUIRES: Final = Key("named conditions; all must be true", distinct(values.RULE_ID))
_WHEN: Final = Key("a condition in CEL; must be true", values.CEL)
_MODE: Final = Key("`enforce` unless set; `audit` to try it out", values.MODE)
_FOR_PEOPLE: Final = {
    "owner": Key("who answers for it, for people", values.OWNER),
    "description": Key("what it is for, for people", values.DESCRIPTION),
}
_RULE_ID: Final = required("unique in the policy, 1 to 128 of letters, digits, `.`, `_`, `-`, `/`", values.RULE_ID)
_NAME: Final = required("by which rules refer to it, as an `id`", values.RULE_ID)
_WORKLOADS: Final = required("IDs and patterns, at least one", distinct(values.WORKLOAD))
_APPROVAL: Final = "who must approve"
_TAKEN: Final = {
    "audiences": required('names, or `["*"]` for all', {"anyOf": [{"const": ["*"]}, distinct(values.AUDIENCE)]}),
    "scopes": Key("all scopes of these audiences when left out", distinct(values.SCOPE)),
}

KEYS: Final[Mapping[str, Mapping[str, Key]]] = {
    "risk tier": {
        "max_ttl": Key("bounds every token with a scope of the tier", values.DURATION),
        "proof_binding": Key("whether its tokens are bound to the certificate", one_of(["optional", "required"])),
        "status": Key("whether its tokens have an entry in a status list", one_of(["none", "required"])),
        "requires": Key("named conditions, for every scope of the tier", distinct(values.RULE_ID)),
        "approval": Key(f"{_APPROVAL}, for every scope of the tier", ref("approval")),
    },
    "audience": {
        "name": required("the `aud`, 1 to 2,048 printable ASCII characters without spaces", values.AUDIENCE),
        "application": required("who owns the API", values.APPLICATION),
        "environment": Key("only callers of it are reached", values.RULE_ID),
        "servers": Key("IDs and patterns of what serves it; they may introspect its tokens", distinct(values.WORKLOAD)),
        "status": Key("whether its tokens have an entry in a status list", one_of(["none", "required"])),
        "max_ttl": Key("bounds every token of the audience", values.DURATION),
        "scopes": required("at least one", some(ref("scope"))),
    },
    "scope": {
        "name": required("unique in its audience, as RFC 6749 writes scopes", values.SCOPE),
        "risk": required("the risk tier", values.RISK),
        "max_ttl": Key("bounds every token with this scope", values.DURATION),
        "approval": Key(_APPROVAL, ref("approval")),
    },
    "approval": {
        "approvers": required("IDs and patterns of those who may approve", distinct(values.WORKLOAD)),
        "quorum": Key(
            "how many of them, 1 unless set",
            {"type": ["integer", "string"], "minimum": 1, "maximum": MAX_QUORUM, "pattern": "^[0-9]+$"},
        ),
        "valid_for": required(
            "how long an answer is waited for, and then how long an approval can be used, at most 7d", values.DURATION
        ),
        "uses": Key(
            "for how many tokens an approval is good, 1 unless set",
            {"type": ["integer", "string"], "minimum": 1, "maximum": MAX_USES, "pattern": "^[0-9]+$"},
        ),
        "human": Key(
            "whether each approver must prove to be a person, with an ID token", {"enum": [True, False, *TRUTH]}
        ),
    },
    "grant": {
        "id": _RULE_ID,
        **_WHO,
        "environments": Key("the caller must be in one of them; the audience's unless set", distinct(values.RULE_ID)),
        "application": Key("on whose behalf", values.APPLICATION),
        "audience": required("exactly one", values.AUDIENCE),
        "scopes": required("at least one, each declared by the audience", distinct(values.SCOPE)),
        "grant_types": Key(
            "`client_credentials` unless set; also `token_exchange`, `intent`, `jit`",
            distinct(values.GRANT_TYPE),
        ),
        "subjects": Key(
            "whose JWT-SVIDs, or tokens of an OpenID provider, may be exchanged; only where `grant_types` is "
            "`[token_exchange]`, which without it is for tokens of this issuer",
            distinct(values.TOKEN_SUBJECT),
        ),
        "requires": _REQUIRES,
        "when": _WHEN,
        "window": Key("how long access of type `jit` lasts at most, `1h` unless set, at most 1d", values.DURATION),
        "max_ttl": Key("bounds tokens of this grant", values.DURATION),
        "not_before": Key("a day (UTC, included) or a moment with its zone", values.MOMENT),
        "expires": Key("a day (UTC, included) or a moment with its zone", values.MOMENT),
        "legacy": Key("an exception for an application that cannot renew", ref("legacy")),
        "mode": _MODE,
        **_FOR_PEOPLE,
    },
    "legacy": {
        "reason": required("why there is an exception, for its next review", values.DESCRIPTION),
        "owner": required("who answers for the exception", values.OWNER),
        "expires": required("when the exception ends, as `expires` of a grant", values.MOMENT),
        "max_ttl": required("at most the `legacy_max_ttl` of the configuration", values.DURATION),
    },
    "prohibition": {
        "id": _RULE_ID,
        **_WHO,
        **_TAKEN,
        "requires": _REQUIRES,
        "when": _WHEN,
        "mode": _MODE,
        **_FOR_PEOPLE,
    },
    "limit": {
        "id": _RULE_ID,
        **_WHO,
        **_TAKEN,
        "when": required("a condition in CEL; it limits unless that is known to be false", values.CEL),
        "max_ttl": Key("bounds tokens while it limits; at least one of `max_ttl` and `requires`", values.DURATION),
        "requires": Key("named conditions that must be true while it limits", distinct(values.RULE_ID)),
        "mode": _MODE,
        **_FOR_PEOPLE,
    },
    "group": {"name": _NAME, "workloads": _WORKLOADS, **_FOR_PEOPLE},
    "condition": {"name": _NAME, "when": required("a condition in CEL", values.CEL), **_FOR_PEOPLE},
    "fact": {
        "name": required("as in `facts.NAME.FIELD`", values.WORD),
        "subject": required("whose fact a decision reads", values.SUBJECT),
        "max_age": required("how long it counts at most, at most 31d", values.DURATION),
        "fields": required(
            "each with its type",
            {
                "type": "object",
                "propertyNames": values.WORD,
                "additionalProperties": values.FIELD_TYPE,
                "minProperties": 1,
            },
        ),
        "description": _FOR_PEOPLE["description"],
    },
    "environment": {"name": _NAME, "workloads": _WORKLOADS},
    "folder": {
        "path": required("relative to the policy's folder", values.FOLDER),
        "audiences": required("all that the files below may speak of", distinct(values.AUDIENCE)),
    },
}
"""By the name that faults use, in the order of the language."""


def _list_of(kind: str, description: str) -> Key:
    return Key(description, {"type": "array", "items": ref(kind)})


FILE: Final[Mapping[str, Key]] = {
    "version": required("`1`, the only version of the language", values.VERSION),
    "min_ttl": Key("the shortest lifetime of a token; `10s` unless set, at most 1m", values.DURATION),
    "risk_tiers": Key(
        "for `low`, `moderate`, `high`, `critical`",
        {
            "type": "object",
            "properties": {tier.value: ref("risk-tier") for tier in RiskTier},
            "additionalProperties": False,
        },
    ),
    "audiences": _list_of("audience", "the APIs that tokens are for, with their scopes"),
    "grants": _list_of("grant", "who may have which scopes; what no grant gives is refused"),
    "prohibitions": _list_of("prohibition", "who may not, whatever a grant says"),
    "limits": _list_of("limit", "what shortens tokens or demands more, while its condition holds"),
    "groups": _list_of("group", "workloads that several rules speak of"),
    "conditions": _list_of("condition", "conditions that several rules require"),
    "facts": _list_of("fact", "the types of facts that conditions read"),
    "environments": _list_of("environment", "parts of the world that workloads run in"),
    "folders": _list_of("folder", "which audiences the files of a folder may speak of"),
}

_EITHER: Final[Mapping[str, list[Schema]]] = {
    "grant": [{"required": ["workloads"]}, {"required": ["groups"]}],
    "prohibition": [{"required": ["workloads"]}, {"required": ["groups"]}],
    "limit": [{"required": [who, what]} for who in ("workloads", "groups") for what in ("max_ttl", "requires")],
}


def policy_schema() -> Schema:
    """Return the schema of one file of policy, as a document of its own."""
    return {
        "$schema": DIALECT,
        **mapping(FILE, "Policy of spiffe-issuer"),
        "description": "Who may have which token, for how long. What is not granted is refused.",
        "$defs": {kind.replace(" ", "-"): _definition(kind, keys) for kind, keys in KEYS.items()},
    }


def _definition(kind: str, keys: Mapping[str, Key]) -> Schema:
    either = _EITHER.get(kind)
    return mapping(keys, kind) if either is None else mapping(keys, kind, anyOf=either)

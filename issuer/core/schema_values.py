"""The values of policy and case files as JSON Schema fragments: their shape, as far as a pattern can tell.

Patterns are those of ECMA 262, which JSON Schema asks for; none uses what Python would read otherwise. What YAML reads
as a number (``id: 7``) is asked for in quotes, although the issuer would read it as the text that it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from issuer.core import token_request
from issuer.core.condition_text import MAX_BYTES
from issuer.core.facts import FieldType, SubjectKind
from issuer.core.policy import Mode, RiskTier
from issuer.core.policy_sections import NOT_A_FIELD
from issuer.core.policy_values import MAX_DESCRIPTION_CHARACTERS, MAX_ID_CHARACTERS, MAX_OWNER_CHARACTERS
from issuer.core.spiffe_id import MAX_ID_BYTES, MAX_TRUST_DOMAIN_BYTES
from issuer.core.token_request import GrantType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Schema: TypeAlias = "dict[str, object]"


class Key(NamedTuple):
    """A key of a mapping: what it says, the schema of its value, and whether it must be there."""

    description: str
    value: Schema
    required: bool = False


def required(description: str, value: Schema) -> Key:
    """Return a key that must be there."""
    return Key(description, value, required=True)


def text(pattern: str | None = None, longest: int | None = None) -> Schema:
    """Return the schema of a text."""
    schema: Schema = {"type": "string"}
    if pattern is not None:
        schema["pattern"] = f"^{pattern}$"
    if longest is not None:
        schema["maxLength"] = longest
    return schema


def one_of(words: Iterable[str], default: str | None = None) -> Schema:
    """Return the schema of one word out of several."""
    schema: Schema = {"type": "string", "enum": list(words)}
    return schema if default is None else {**schema, "default": default}


def distinct(items: Schema) -> Schema:
    """Return the schema of a list with at least one entry, none of them twice: empty never means all."""
    return {"type": "array", "items": items, "minItems": 1, "uniqueItems": True}


def some(items: Schema) -> Schema:
    """Return the schema of a list with at least one entry."""
    return {"type": "array", "items": items, "minItems": 1}


def mapping(keys: Mapping[str, Key], title: str, **more: object) -> Schema:
    """Return the schema of a mapping with these keys and no others."""
    schema: Schema = {
        "title": title,
        "type": "object",
        "properties": {name: {"description": key.description, **key.value} for name, key in keys.items()},
        "required": [name for name, key in keys.items() if key.required],
        "additionalProperties": False,
    }
    return {**schema, **more}


def ref(name: str) -> Schema:
    """Return a reference to a definition of the same document."""
    return {"$ref": f"#/$defs/{name}"}


_LITERAL: Final = r"(?!\.\.?(?:/|$))[A-Za-z0-9._-]+"  # SPIFFE-ID section 2.2: never '.' or '..'
_TRUST_DOMAIN: Final = rf"[a-z0-9._-]{{1,{MAX_TRUST_DOMAIN_BYTES}}}"
_PART: Final = r"(?!\.{1,2}(?:/|$))[^/]+"
_DAY: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME: Final = "[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?:Z|[+-][0-9]{2}:[0-9]{2})"

WORKLOAD: Final = text(rf"spiffe://{_TRUST_DOMAIN}/(?:(?:{_LITERAL}|\*)/)*(?:{_LITERAL}|\*\*?)", MAX_ID_BYTES)
SPIFFE_ID: Final = text(rf"spiffe://{_TRUST_DOMAIN}(?:/{_LITERAL})+", MAX_ID_BYTES)
TOKEN_SUBJECT: Final = text(
    rf"(?:spiffe://{_TRUST_DOMAIN}/(?:(?:{_LITERAL}|\*)/)*(?:{_LITERAL}|\*\*?)"
    r"|https?://[^#?\s]+#(?:\*|[A-Za-z0-9_.~%-]+))",
    MAX_ID_BYTES,
)
DURATION: Final = text("(?=.*[1-9])(?:[0-9]{1,5}d)?(?:[0-9]{1,6}h)?(?:[0-9]{1,8}m)?(?:[0-9]{1,9}s)?")
MOMENT: Final = text(f"{_DAY}(?:{_TIME})?")
RULE_ID: Final = text("[A-Za-z0-9][A-Za-z0-9._/-]*", MAX_ID_CHARACTERS)
AUDIENCE: Final = text(r"(?!\*$)[!-~]+", token_request.MAX_AUDIENCE_BYTES)
SCOPE: Final = text(r"[!#-\[\]-~]+", token_request.MAX_SCOPE_BYTES)
APPLICATION: Final = text("[A-Za-z0-9][A-Za-z0-9._-]*", token_request.MAX_APPLICATION_BYTES)
INTENT: Final = text("[ -~]+", token_request.MAX_INTENT_BYTES)
WORD: Final = text(f"(?!(?:{'|'.join(sorted(NOT_A_FIELD))})$)[a-z][a-z0-9_]{{0,63}}")
FOLDER: Final = text(f"{_PART}(?:/{_PART})*")
OWNER: Final = text(longest=MAX_OWNER_CHARACTERS)
DESCRIPTION: Final = text(longest=MAX_DESCRIPTION_CHARACTERS)
CEL: Final[Schema] = {"type": ["string", "boolean"], "maxLength": MAX_BYTES}
"""``when: true`` is a boolean to YAML, and a condition to us."""
VERSION: Final[Schema] = {"const": 1}
BOOLEAN: Final[Schema] = {"enum": [True, False, "true", "false"]}
MODE: Final = one_of([mode.value for mode in Mode], Mode.ENFORCE.value)
RISK: Final = one_of([tier.value for tier in RiskTier])
SUBJECT: Final = one_of([kind.value for kind in SubjectKind])
FIELD_TYPE: Final = one_of([kind.value for kind in FieldType])
GRANT_TYPE: Final = one_of([kind.value for kind in GrantType])

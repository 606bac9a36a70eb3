"""W3C trace context: what counts as a parent, and what is as if nothing was sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.tracing.context import Parent, parent_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


def parent(value: str | bytes) -> Parent | None:
    return parent_of([("user-agent", "x"), ("traceparent", value)])


def test_a_parent_is_read() -> None:
    assert parent(GOOD) == Parent(bytes.fromhex(TRACE), bytes.fromhex(SPAN), is_sampled=True)


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)])
def test_only_the_lowest_flag_says_whether_it_is_kept(flags: str, sampled: bool) -> None:  # noqa: FBT001 - a case
    found = parent(f"00-{TRACE}-{SPAN}-{flags}")
    assert found is not None
    assert found.is_sampled is sampled


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert parent(f"cc-{TRACE}-{SPAN}-01") == parent(GOOD)
    assert parent(f"cc-{TRACE}-{SPAN}-01-what-comes-next") == parent(GOOD)


@pytest.mark.parametrize(
    "value",
    [
        "",
        GOOD.upper(),
        f" {GOOD}",
        f"{GOOD} ",
        f"{GOOD}\n",
        f"{GOOD}-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-0g",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 300}",
        f"00-{chr(0xFF11) * 32}-{SPAN}-01",
        GOOD.encode(),
    ],
)
def test_what_is_malformed_is_no_parent(value: str | bytes) -> None:
    assert parent(value) is None


def test_two_parents_are_none() -> None:
    assert parent_of([("traceparent", GOOD), ("traceparent", GOOD)]) is None


def test_none_is_none() -> None:
    assert parent_of([]) is None


@given(st.one_of(st.text(max_size=80), st.binary(max_size=80), st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-.*")))
def test_whatever_is_sent_is_read_without_an_error(value: str | bytes) -> None:
    found = parent(value)
    assert found is None or (len(found.trace_id), len(found.span_id)) == (16, 8)

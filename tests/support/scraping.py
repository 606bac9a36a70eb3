"""What a monitoring system reads of an issuer."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

Series = tuple[str, frozenset[tuple[str, str]]]
"""The name of a sample, and its labels."""


def scraped_text(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def samples(text: str) -> dict[Series, float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(port: int) -> dict[Series, float]:
    return samples(scraped_text(port))


def value(seen: dict[Series, float], name: str, **labels: str) -> float:
    """Return the sum of the samples of this name that have at least these labels."""
    return sum(number for (each, told), number in seen.items() if each == name and labels.items() <= dict(told).items())

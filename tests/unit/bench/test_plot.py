import re
from xml.etree import ElementTree as ET

from bench.plot import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Point, latency_plot

SVG = "{http://www.w3.org/2000/svg}"
SERIES = {
    "ours": [Point("1", 900, 1.1, 3.0), Point("16", 2_500, 6.0, 14.0)],
    "<theirs> & co": [Point("1", 1_200, 0.8, 1.9), Point("16", 3_100, 5.2, 11.0)],
}


def drawn(series: dict[str, list[Point]] = SERIES) -> ET.Element:
    return ET.fromstring(latency_plot("A title", series))  # noqa: S314 - our own text


def texts(picture: ET.Element) -> list[str]:
    return [each.text or "" for each in picture.iter(f"{SVG}text")]


def test_every_line_has_its_name_and_every_point_its_load() -> None:
    found = texts(drawn())
    assert {"A title", "ours", "<theirs> & co"} <= set(found)
    assert found.count("16") == len(SERIES)


def test_each_subject_has_one_line_for_the_median_and_one_for_the_99th_percentile() -> None:
    lines = list(drawn().iter(f"{SVG}polyline"))
    assert len(lines) == 2 * len(SERIES)
    assert sum("stroke-dasharray" in line.attrib for line in lines) == len(SERIES)


def test_every_point_lies_within_the_axes_and_more_lies_to_the_right_and_above() -> None:
    for line in drawn().iter(f"{SVG}polyline"):
        (x1, y1), (x2, y2) = (map(float, pair.split(",")) for pair in line.attrib["points"].split())
        assert LEFT <= x1 < x2 <= WIDTH - RIGHT
        assert TOP <= y2 < y1 <= HEIGHT


def test_the_axes_are_marked_at_powers_of_ten() -> None:
    found = texts(drawn())
    assert {"100", "1,000", "10,000"} <= set(found)
    assert {"0.1 ms", "1 ms", "10 ms", "100 ms"} <= set(found)


def test_nothing_measured_is_an_empty_picture() -> None:
    assert not list(drawn({}).iter(f"{SVG}polyline"))


def test_a_figure_of_nothing_does_not_break_it() -> None:
    picture = latency_plot("", {"idle": [Point("1", 0, 0, 0), Point("16", 10, 1, 1)]})
    assert not re.search("nan|inf", picture)

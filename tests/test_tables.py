"""Numbers and tables as text."""

import math
import re

import pytest

from companion.evidence import tables
from companion.records.table import Interval
from wrnn.errors import WrnnError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "—"),
        (0.0, "0"),
        (12108, "12,108"),
        (98.0, "98"),
        (0.16666666, "0.167"),
        (9.999e-4, "0.001"),
        (1.23456e-5, "1.23 × 10⁻⁵"),
        (60000.0, "60,000"),
        (1234567.0, "1.23 × 10⁶"),
        (9999.0, "10,000"),
        (-0.25, "−0.25"),
        (math.nan, "not a number"),
        (math.inf, "∞"),
    ],
)
def test_number(value, text):
    assert tables.number(value) == text


def test_number_never_shows_more_than_four_digits():
    for power in range(-15, 16):
        shown = tables.number(math.pi * 10.0**power, digits=4).partition(" ")[0]
        assert len(re.sub(r"^[0.]+|[.,]", "", shown).rstrip("0")) <= 4
    assert tables.plus_minus(97.27, 0.15) == "97.27 ± 0.15"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((6.2, None, None, ">="), "≥ 6.2"),
        ((97.27, 97.01, 97.53, ""), "97.3 [97, 97.5]"),
        ((97.27, 97.261, 97.279, ""), "97.27 [97.26, 97.28]"),
        ((2.4e-9, 2.4e-9, 2.4e-9, "<="), "≤ 2.4 × 10⁻⁹"),
        ((6.5, 5.8, 7.2, ">="), "≥ 6.5 [5.8, 7.2]"),
        ((0.0, -1.5, 1.5, ""), "0 [−1.5, 1.5]"),
    ],
)
def test_an_interval_shows_its_ends_and_whether_it_is_a_bound(values, text):
    mean, low, high, bound = values
    found = Interval(mean, low, high, 3, (), bound)
    assert tables.interval(found) == tables.cell(found) == text
    assert tables.interval(None) == "—"


ROWS = [
    {"model|n": "wRNN", "paper": 4e-6, "here": "[3 × 10⁻⁶](b.md) {cite}`keller2024waves`"},
    {"model|n": "iRNN | n", "paper": None, "here": "{ref}`**x** <sec-x>`"},
]


def test_rows_as_markdown_and_as_plain_text():
    assert tables.markdown(ROWS).splitlines() == [
        r"| model\|n | paper | here |",
        "| --- | --- | --- |",
        "| wRNN | 4 × 10⁻⁶ | [3 × 10⁻⁶](b.md) {cite}`keller2024waves` |",
        r"| iRNN \| n | — | {ref}`**x** <sec-x>` |",
    ]
    assert tables.plain(ROWS).splitlines() == [
        "model|n   paper     here",
        "--------  --------  --------------------------",
        "wRNN      4 × 10⁻⁶  3 × 10⁻⁶ [keller2024waves]",
        "iRNN | n  —         x",
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tables.number(1.0, digits=5), "digits must be 1 to 4, not 5"),
        (lambda: tables.markdown([]), "at least one row"),
        (lambda: tables.plain([{"a": 1}, {"b": 1}]), "need the columns"),
        (lambda: tables.markdown([{"a": [1]}]), "cannot hold list"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(WrnnError, match=message):
        call()

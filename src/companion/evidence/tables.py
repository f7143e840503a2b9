"""Numbers and tables as text, the same on every machine.

At most four significant digits for anything measured, so that a stored output compares equal on
repeat; counts (Python integers) are exact and keep all their digits. One list of rows gives both
the Markdown of the site and the plain text that a notebook prints.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wrnn.errors import WrnnError

if TYPE_CHECKING:
    from companion.records.table import Interval

NOTHING = "—"
LARGE = 6  # powers of ten from which a number is written with its exponent
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Row = Mapping[str, object]


def number(value: float | int | None, digits: int = 3) -> str:
    """One number with at most `digits` (1 to 4) significant digits.

    >>> number(1.23456e-5), number(97.6), number(12108), number(None)
    ('1.23 × 10⁻⁵', '97.6', '12,108', '—')
    """
    if not 1 <= digits <= 4:
        raise WrnnError(f"digits must be 1 to 4, not {digits}")
    if value is None:
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    text, exponent = f"{abs(value):.{digits - 1}e}".split("e")
    power = ""
    if -3 <= int(exponent) < LARGE:
        text = f"{float(f'{text}e{exponent}'):,.6f}"  # four digits of a thousandth, at most
    else:
        power = f" × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return ("−" if value < 0 else "") + text + power


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "thread"), counted(2, "thread")
    ('1 thread', '2 threads')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def plus_minus(mean: float, deviation: float) -> str:
    """A printed mean and its deviation, '97.27 ± 0.15'."""
    return f"{number(mean, 4)} ± {number(deviation, 2)}"


def interval(value: "Interval | None", digits: int = 3) -> str:
    """A mean and its interval, '97.3 [97.0, 97.5]', or '≥ 6.2' where it is a bound.

    The ends keep as many digits as tell them apart, four at most; one seed has no interval.
    """
    if value is None:
        return NOTHING
    sign = {">=": "≥ ", "<=": "≤ ", "": ""}[value.bound]
    if value.low is None or number(value.low, 4) == number(value.high, 4):
        return sign + number(float(value.mean), digits)
    while digits < 4 and number(value.low, digits) == number(value.high, digits):
        digits += 1
    mean, low, high = (number(float(x), digits) for x in (value.mean, value.low, value.high))
    return f"{sign}{mean} [{low}, {high}]"


def cell(value: object) -> str:
    """The text of one cell: texts as they are, numbers formatted, None as a dash."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, int | float):
        return number(value)
    if hasattr(value, "mean") and hasattr(value, "bound"):
        return interval(value)
    raise WrnnError(f"a table cell cannot hold {type(value).__name__}")


def _header(rows: Sequence[Row]) -> list[str]:
    if not rows:
        raise WrnnError("a table needs at least one row")
    header = list(rows[0])
    for row in rows:
        if list(row) != header:
            raise WrnnError(f"all rows of a table need the columns {header}, not {list(row)}")
    return header


def markdown(rows: Sequence[Row]) -> str:
    """Rows with the same keys as a Markdown table; the keys are the header."""
    header = _header(rows)
    body = ([cell(row[key]) for key in header] for row in rows)
    lines = [[text.replace("|", r"\|") for text in line] for line in (header, *body)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def plain_text(text: str) -> str:
    """Return Markdown without its marks: links, references and citations by their text."""
    text = re.sub(r"\{\w+\}`([^`<]*) <[^`]*>`", r"\1", text)
    text = re.sub(r"\{[\w:]+\}`([^`]*)`", r"[\1]", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"[`*$]", "", text)


def plain(rows: Sequence[Row]) -> str:
    """The same table as aligned plain text, for a terminal and for a notebook's output."""
    header = _header(rows)
    lines = [header, *([plain_text(cell(row[key])) for key in header] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    joined = (
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        for line in lines
    )
    return "\n".join(line.rstrip() for line in joined) + "\n"

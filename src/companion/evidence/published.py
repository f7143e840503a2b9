"""The numbers of the paper, as data.

Every value of Tables 1-4, the parameter counts of the text, the statements that a figure or a
sentence makes in numbers, and the results of a later independent rerun. They live in
`published.json` beside this file, each under a stable id: `table1/wrnn/T=100/test_mse`,
`table2/lstm/psmnist`, `table4/wrnn/T=0/mse`, `parameters/copy-irnn-n-100`, `claim/fig2/...`,
`later/wrnn/smnist`.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from wrnn.errors import WrnnError

FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Published:
    """One published number and where it stands.

    `value` is None where the paper prints none (a cross, or nothing). `source` is the key in the
    bibliography of the work that measured it; `inferred` says that the work behind a footnote of
    a table was inferred. The last four fields belong to some groups only: the plain cross-entropy
    behind a printed "MSE" of the copy task, the parameter counts of the released code, and the
    standard deviation over seeds.
    """

    id: str
    where: str
    model: str
    column: str
    value: float | int | None
    unit: str
    source: str
    length: int | None = None
    relation: str = ""
    note: str = ""
    inferred: bool = False
    cross_entropy: float | None = None
    without_biases: int | None = None
    with_biases: int | None = None
    deviation: float | None = None

    def __post_init__(self) -> None:
        """Refuse a record that is not one (WrnnError)."""
        for name in ("id", "where", "model", "column", "unit", "source"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise WrnnError(f"published number {self.id!r}: {name} must be a non-empty text")
        if not isinstance(self.value, int | float | None) or isinstance(self.value, bool):
            raise WrnnError(f"published number {self.id!r}: value {self.value!r} is not a number")


def load(file: Path = FILE) -> dict[str, Published]:
    """Read and check a file of published numbers, by id; WrnnError says what is wrong with it.

    Those of the tables come first, then the claims of text and figures, then later work.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        groups = (data[group] for group in ("records", "claims", "later"))
        numbers = [Published(**entry) for group in groups for entry in group]
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise WrnnError(f"published numbers {file}: {error}") from error
    by_id = {number.id: number for number in numbers}
    if len(by_id) != len(numbers):
        raise WrnnError("published numbers: an id is used twice")
    return by_id


_index = cache(load)


def published(number_id: str) -> Published:
    """The published number with this id."""
    if number_id not in _index():
        raise WrnnError(f"no published number {number_id!r}; `published.select('')` lists all ids")
    return _index()[number_id]


def select(prefix: str) -> tuple[Published, ...]:
    """All published numbers whose id begins with `prefix`, in printed order."""
    return tuple(number for key, number in _index().items() if key.startswith(prefix))


def value(number_id: str) -> float | int | None:
    """The value of a published number; None where the paper prints none."""
    return published(number_id).value

"""The published numbers: complete, unique, sourced, and refused when they are broken."""

import ast
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from companion.evidence import published as paper
from wrnn.errors import WrnnError


@pytest.fixture(scope="module")
def book():
    return paper.load()


def test_complete(book):
    assert (len(book.records), len(book.claims), len(book.later)) == (141, 34, 6)
    per_table = Counter(number.id.partition("/")[0] for number in book.records)
    assert per_table == {"table1": 20, "table2": 52, "table3": 30, "table4": 28, "parameters": 11}


def test_ids_are_unique_and_plain(book):
    everything = (*book.records, *book.claims, *book.later)
    assert len(book.by_id) == len(everything) == 181
    assert all(re.fullmatch(r"[a-z0-9=/_T-]+", number.id) for number in everything)


def test_known_values():
    assert paper.value("table1/wrnn/T=100/test_mse") == 4e-6
    assert paper.value("table1/irnn/T=700/solved_iter") is None
    assert paper.value("table2/wrnn-mlp/psmnist") == 97.6
    assert paper.value("table3/lem/accuracy") == 60.5
    assert paper.value("claim/fig3/orders-of-magnitude/T=80") == 5
    assert paper.published("later/wrnn/psmnist").deviation == 0.17


def test_every_source_is_in_the_bibliography(book):
    bibliography = Path(__file__).parents[1] / "book" / "references.bib"
    keys = set(re.findall(r"^@\w+\{(\w+),", bibliography.read_text(encoding="utf-8"), re.MULTILINE))
    assert {number.source for number in book.by_id.values()} <= keys
    cited = {number.source for number in paper.select("table2/")}
    assert {"keller2024waves", "rusch2022lem", "arjovsky2016urnn"} <= cited


def test_copy_values_carry_their_cross_entropy():
    for number in paper.select("table4/"):
        assert number.cross_entropy == pytest.approx(50 * number.value, rel=1e-12)


def test_parameter_counts_follow_the_formulas():
    def counted(name):
        number = paper.published(f"parameters/{name}")
        return number.without_biases, number.with_biases

    n, c, k, channels_in, out = 100, 6, 3, 10, 10
    without = n * c * channels_in + c * c * k + n * c * out
    assert counted("copy-wrnn-n-100-c-6") == (without, without + n * c + c + out)
    without = 625 * 10 + 625 * 625 + 625 * 10
    assert counted("copy-irnn-n-625") == (without, without + 2 * 625 + out)


def test_select_keeps_printed_order():
    lengths = [number.length for number in paper.select("table1/wrnn/") if "mse" in number.id]
    assert lengths == [100, 200, 400, 700, 1000]
    assert paper.select("nothing/") == ()


def test_unknown_id():
    with pytest.raises(WrnnError, match="no published number 'table9/x'"):
        paper.published("table9/x")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data["records"][0].update(value="4e-6"),
        lambda data: data["records"][0].pop("source"),
        lambda data: data["records"][0].update(unit=""),
        lambda data: data["records"][0].update(id=data["records"][1]["id"]),
        lambda data: data["records"][0].update(extra=1),
        lambda data: data.pop("later"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, spoil):
    data = json.loads(paper.FILE.read_text(encoding="utf-8"))
    spoil(data)
    file = tmp_path / "published.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(WrnnError) as error:
        paper.load(file)
    assert "\n" not in str(error.value)


def test_a_missing_or_torn_file_is_refused(tmp_path):
    with pytest.raises(WrnnError):
        paper.load(tmp_path / "none.json")
    (tmp_path / "torn.json").write_text('{"paper": ', encoding="utf-8")
    with pytest.raises(WrnnError):
        paper.load(tmp_path / "torn.json")


TAKES = {  # call -> position of its argument, and the beginning of the ids that it takes
    "paper.select": (0, "{}"),
    "chapter.by_model": (0, "{}/"),
}


def selected_prefixes(chapter):
    """Literal beginnings of the ids that a chapter takes; any other argument is refused."""
    prefixes = []
    for node in ast.walk(ast.parse(chapter.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in TAKES:
            position, form = TAKES[ast.unparse(node.func)]
            argument = node.args[position]
            assert isinstance(argument, ast.Constant), f"{chapter.name}: {ast.unparse(node)}"
            prefixes.append(form.format(argument.value))
    return prefixes


def test_every_number_of_the_tables_has_one_place(book):
    """Numbered chapters take whole tables by prefix, and quote single numbers by their id."""
    chapters = sorted((Path(__file__).parents[1] / "notebooks").glob("0*.py"))
    shown = Counter(
        number.id
        for chapter in chapters
        for prefix in selected_prefixes(chapter)
        for number in paper.select(prefix)
    )
    assert {number.id: shown[number.id] for number in book.records} == {
        number.id: 1 for number in book.records
    }

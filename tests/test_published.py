"""The published numbers: complete, sourced, each shown once, and refused when they are broken."""

import ast
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from companion.evidence import published as paper
from wrnn.errors import WrnnError

ROOT = Path(__file__).parents[1]
TABLES = [n for n in paper.select("") if n.id.startswith(("table", "parameters/"))]


def test_every_table_is_complete_and_sourced():
    per_table = Counter(number.id.partition("/")[0] for number in TABLES)
    assert per_table == {"table1": 20, "table2": 52, "table3": 30, "table4": 28, "parameters": 11}
    bibliography = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    keys = set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))
    assert {number.source for number in paper.select("")} <= keys
    for number in paper.select("table4/"):  # printed on the released code's scale
        assert number.cross_entropy == pytest.approx(50 * number.value, rel=1e-12)
    lengths = [number.length for number in paper.select("table1/wrnn/") if "mse" in number.id]
    assert lengths == [100, 200, 400, 700, 1000]  # in printed order


def test_a_number_is_found_by_its_id_alone():
    assert paper.value("table2/wrnn-mlp/psmnist") == 97.6
    assert paper.value("table1/irnn/T=700/solved_iter") is None
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
        None,
    ],
)
def test_a_broken_file_is_refused_in_one_line(tmp_path, spoil):
    file = tmp_path / "published.json"
    with pytest.raises(WrnnError):  # it is not there
        paper.load(file)
    data = json.loads(paper.FILE.read_text(encoding="utf-8"))
    if spoil:
        spoil(data)
    text = json.dumps(data)
    file.write_text(text if spoil else text[:-1], encoding="utf-8")
    with pytest.raises(WrnnError) as error:
        paper.load(file)
    assert "\n" not in str(error.value)


def test_every_number_of_the_tables_has_one_place():
    """Numbered chapters take whole tables by prefix, and quote single numbers by their id."""
    shown = Counter()
    for chapter in (ROOT / "notebooks").glob("0*.py"):
        for node in ast.walk(ast.parse(chapter.read_text(encoding="utf-8"))):
            call = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if call in ("paper.select", "chapter.by_model"):
                prefix = ast.literal_eval(node.args[0]) + "/" * call.endswith("by_model")
                shown.update(number.id for number in paper.select(prefix))
    assert {number.id: shown[number.id] for number in TABLES if shown[number.id] != 1} == {}

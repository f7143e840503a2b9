"""No result is typed into a chapter: quantities in its prose are computed, cited, or a set-up's.

What a chapter computes it says from a code cell. So in its Markdown cells a number is a size that
its code or the tasks and runs of the package have too, or stands in a sentence that cites its
source; words that compare ("twice", "most", "little better") always need a citation. What else may
stay is in `ALLOWED`, by kind.
"""

import ast
import re
from functools import cache
from pathlib import Path

import jupytext
import pytest

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.py"))
WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
WORDS |= {"nine": 9, "ten": 10, "twelve": 12, "hundred": 100, "thousand": 1000}

NOT_PROSE = re.compile(
    r"^(`{3,}|~{3,}|:{3,}).*?^\1[ \t]*$"  # blocks
    r"|\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)|https?://\S+|^\(\S+\)=|^#+ [^\n]*",
    re.MULTILINE | re.DOTALL,
)
NAMES = re.compile(  # what has a digit in it and is no quantity
    r"\b(?:Figures?|Tables?|App\.|[Cc]hapters?) \d+(?:(?:, | and | to )\d+)*"
    r"|\b(?:CIFAR10|H200|TF32|32-bit|float(?:32|64)|seed 0)\b"
    r"|\b(?:in|[Bb]efore|[Uu]ntil|from) (?:\d+ )?\w+ 20\d\d"
    r"|^\d+\.(?: |$)|\b95 % (?=interval|confidence)|\[0, 1\)",
    re.MULTILINE,
)
# Sizes by which a set-up is defined; the number itself has to be in the code.
THINGS = (
    "answers? |batches|categories|channels?|combinations|digits|epochs|groups|images|inputs?|lags?|"
    "laps?|logits|models|modes|networks|numbers|pixels|rings?|rows?|seeds|sequences|sites?|speeds|"
    "starts|steps?|surrogates|symbols|units|values|weights"
)
SIZE = re.compile(
    rf"\b(?:(?P<before>\d[\d,.]*\d|\d|{'|'.join(WORDS)})[ -](?:(?!times|points)\w+ ){{0,2}}?"
    rf"(?:{THINGS})\b|(?:batches|rate|lags?|steps?|weight|length|bias|norm|clip|deviation|height|"
    r"by|after|among|from|to)(?: of| is| at|) (?P<after>\d[\d,.]*\d|\d)\b)"
)
NUMBER = re.compile(r"(?<![\w.])\d[\d,.]*")
FOUND = re.compile(  # what is said of a result: no number beside it is a set-up
    r"\b(?:takes?|took|solves|solved|reach(?:es|ed)|ends?|ended|settles|costs|gains|loses|beats|"
    r"fails|copies|learns|learned|scores)\b"
)
COMPARED = re.compile(
    r"(?<!at )(?<!the )\bmost(?:ly)?\b|\b(?:nearly|almost|hardly|barely|half|halves|third|quarter|"
    r"tenth|twice|double|triple|thrice|dozens?|hundreds|thousands|tens of|orders? of magnitude|"
    r"powers? of ten|per ?cent|majority|many times|several (?:points|orders|times)|few|"
    r"little (?:better|worse|more|less|lower|higher|else)|"
    r"(?:far|much) (?:more|less|fewer|better|worse|lower|higher|larger|smaller))\b"
    rf"|\b(?:{'|'.join(WORDS)}|\d[\d,.]*) (?:%|points?\b|times\b|fold\b|orders?\b|powers?\b|"
    r"seconds?\b|minutes?\b|hours?\b|days?\b)",
    re.IGNORECASE,
)

# (kind, chapter, the words as they stand). Kinds: paper (its statement, the chapter cites it),
# definition (of a measure, a rule or a scale), algebra (follows from an equation beside it),
# usage (how a command or a machine behaves).
ALLOWED: tuple[tuple[str, str, str], ...] = (
    ("definition", "01", "(in a quarter of the cases)"),
    ("definition", "01", "below one half"),
    ("definition", "02", "both at 0.05 or below"),
    ("definition", "02", "whose activity varies most"),
    ("definition", "03", "0 is a blank and 9 the cue"),
    ("definition", "03", "at or below it for 2,000 steps"),
    ("definition", "04", "of the first half and one of the second half"),
    ("definition", "04", "ended 2,000 steps after it was solved"),
    ("definition", "07", "a tenth of that of a network without memory"),
    ("definition", "08", "less than a tenth of the way from chance"),
    ("definition", "08", "fitted on half of the sequences"),
    ("definition", "08", "more than half of what a network gains"),
    ("usage", "B", "no run is trained twice"),
    ("usage", "B", "merging twice changes nothing"),
    ("usage", "B", "Chapters executed twice"),
)


def sentences(markdown: str) -> list[tuple[str, bool]]:
    """The sentences of a Markdown cell without what is no prose, and whether each is cited.

    The paragraph on what the paper claims is cited as a whole.
    """
    text = re.sub(r"\{cite\}`[^`]*`", "CITED", markdown)
    text = NOT_PROSE.sub(" ", re.sub(r"\{[\w:]+\}`[^`]*`", "", text))
    found = []
    for paragraph in re.split(r"\n\s*\n|\n(?=[-*|] |\d+\. )", text):
        paragraph = " ".join(paragraph.split())
        whole = "What the paper claims." in paragraph and "CITED" in paragraph
        found += [
            (sentence, whole or "CITED" in sentence)
            for sentence in re.split(r"(?<=[.:;?])\s+(?=\W*[A-Z])", paragraph)
        ]
    return found


@cache
def literals(source: str) -> frozenset[float]:
    """Every number that is written in Python source."""
    nodes = ast.walk(ast.parse(source))
    values = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return frozenset(float(v) for v in values if type(v) in (int, float))


@cache
def package_numbers() -> frozenset[float]:
    """The numbers of the tasks, the models and the runs."""
    folders = ("src/wrnn/tasks", "src/wrnn", "src/companion/runs", "src/companion/evidence")
    files = [path for folder in folders for path in (ROOT / folder).glob("*.py")]
    return frozenset().union(*(literals(path.read_text(encoding="utf-8")) for path in files))


def typed(markdown: str, known: frozenset[float]) -> list[str]:
    """The sentences of a Markdown cell with a quantity that no code and no citation stands behind.

    `known` are the numbers that the code has.
    """

    def drop_size(match: re.Match) -> str:
        text = (match["before"] or match["after"]).lower().rstrip(".,").replace(",", "")
        value = WORDS.get(text, text)
        try:
            return "" if float(value) in known else match[0]
        except ValueError:
            return match[0]

    found = []
    for sentence, cited in sentences(markdown):
        left = NAMES.sub("", sentence)
        left = left if FOUND.search(left) else SIZE.sub(drop_size, left)
        if not cited and (COMPARED.search(left) or NUMBER.search(left)):
            found.append(sentence)
    return found


def test_no_result_is_typed_into_a_chapter():
    wrong, used = [], set()
    for path in CHAPTERS:
        cells = jupytext.read(path, fmt="py:percent").cells
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        known = literals(code) | package_numbers()
        allowed = {words for _, chapter, words in ALLOWED if chapter == path.stem.split("_")[0]}
        for cell in (cell for cell in cells if cell.cell_type == "markdown"):
            for sentence in typed(cell.source, known):
                said = {words for words in allowed if words in sentence}
                used |= said
                wrong += [] if said else [f"{path.stem}: {sentence}"]
    assert wrong == [], "compute it in a code cell (page.say), or cite it"
    assert used == {words for *_, words in ALLOWED}, "what is allowed and no longer there"
    assert {kind for kind, *_ in ALLOWED} <= {"paper", "definition", "algebra", "usage"}


@pytest.mark.parametrize(
    "sentence",
    [
        "The wRNN ends 6.9 orders of magnitude below the iRNN.",
        "A random kernel is little better off than a full matrix.",
        "On the digits it reaches 97.4 %.",
        "The wRNN takes 100 steps to solve it.",
        "It settled after 2,345 steps, and there are 2,345 steps.",
        "It is three times as fast.",
        "Most channels lose the pulse.",
        "About half of the seeds settle at the floor.",
        "Fresh noise costs the wRNN 14 points and the iRNN 25.",
        "The parameters are 40x as many. See {ref}`sec-copy` and `page.say`.",
        "| wRNN | 0.0123 |",
    ],
)
def test_a_typed_result_is_found(sentence):
    assert typed(f"## A section\n\nSome words. {sentence}", frozenset({1.0, 100.0})) != []


@pytest.mark.parametrize(
    "sentence",
    [
        "Batches of 128 sequences go through 16 channels, see Table 2 and Figures 3 and 4.",
        "The iRNN needs twice the steps {cite}`keller2024waves`.",
        "**What the paper claims.** It is 5 times better. So it says {cite}`keller2024waves`.",
        "$T = 490$ and `--seeds 5` are no prose. The network does at most what its kernel does.",
        "```sh\nwrnn run table1 --seeds 5\n```",
    ],
)
def test_a_set_up_and_a_citation_may_stay(sentence):
    assert typed(sentence, frozenset({128.0, 16.0})) == []

"""The first page: where the claims stand and what was found, computed from the verdicts."""

from collections.abc import Sequence

from companion.evidence.claims import QUESTIONS
from companion.evidence.verdicts import (
    CONTRADICTED,
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    MARKS,
    OPEN,
    REPRODUCED,
    Finding,
)

# What says most comes first: what is decided, then what is on its way, then what is not.
_WEIGHT = (REPRODUCED, CONTRADICTED, HOLDS, FAILS, INCONCLUSIVE)
_WORDS = {
    REPRODUCED: "This is reproduced",
    CONTRADICTED: "Our records contradict it",
    HOLDS: "It holds so far",
    FAILS: "It fails so far",
    INCONCLUSIVE: "Our records leave it inconclusive",
}
_STAND = {  # of one claim, of several
    REPRODUCED: ("is reproduced", "are reproduced"),
    HOLDS: ("holds so far", "hold so far"),
    INCONCLUSIVE: ("is inconclusive", "are inconclusive"),
    FAILS: ("fails so far", "fail so far"),
    CONTRADICTED: ("is contradicted", "are contradicted"),
    OPEN: ("is open", "are open"),
}


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    """Return how many claims have each verdict, in the order of the marks, zeros included."""
    return {name: sum(f.verdict == name for f in findings) for name in MARKS}


def standing(judged: Sequence[Finding]) -> str:
    """Say how many claims have which verdict."""
    numbers = counts(judged)
    return ", ".join(f"{n} {_STAND[name][n > 1]}" for name, n in numbers.items() if n)


def findings(judged: Sequence[Finding]) -> list[str]:
    """Return at most five sentences: where all claims stand, and one finding for each question.

    Of a question it is the finding that says most, of these one without a part that is open, of
    these one with most seeds; a question that has none yet is named as open.
    """
    sure = [f for f in judged if f.verdict != OPEN]
    single = sum(f.seeds == 1 for f in sure)
    sentences = [
        f"Of {len(judged)} claims of the paper, {standing(judged)}."
        + f" Of the {len(sure)} that are not open, {single} stand on one seed." * bool(single)
    ]
    for key, question in QUESTIONS.items():
        decided = [f for f in judged if f.claim.question == key and f.verdict != OPEN]
        if not decided:
            sentences.append(f"{question} Open: nothing is recorded far enough to say.")
            continue
        best = min(
            decided, key=lambda f: (_WEIGHT.index(f.verdict), OPEN in f.part_verdicts, -f.seeds)
        )
        link = f"{{ref}}`{best.claim.statement} <sec-{best.claim.section}>`"
        sentences.append(
            f"{link}. {_WORDS[best.verdict]}: {best.short} (in the paper "
            f"{best.claim.paper} {best.claim.unit}).{f' {best.remark}.' * bool(best.remark)}"
        )
    return sentences


def by_verdict(judged: Sequence[Finding]) -> list[dict[str, str]]:
    """Return short rows, one per claim, grouped by verdict and linked to the chapters."""
    rows = []
    for name, mark in MARKS.items():
        for finding in (finding for finding in judged if finding.verdict == name):
            claim = finding.claim
            rows.append(
                {
                    "verdict": f"{mark} {name}",
                    "claim": f"{{ref}}`{claim.statement} <sec-{claim.section}>`",
                    "paper": f"{claim.paper} {claim.unit}",
                    "recorded": finding.short,
                }
            )
    return rows

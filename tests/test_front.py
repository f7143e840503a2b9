"""The first page: its sentences and its table change with the records."""

from dataclasses import replace

from samples import make_record

from companion.evidence import claims
from companion.evidence.verdicts import CONTRADICTED, HOLDS, MARKS, OPEN, REPRODUCED, judge
from companion.page import front
from companion.records.files import Store
from companion.records.table import gather
from companion.runs.experiments import EXPERIMENTS


def judged(store):
    records = store.all()
    results = {e.name: gather(e, "paper", records) for e in claims.experiments_needed()}
    return [judge(claim, results) for claim in claims.CLAIMS]


def put_copies(store, symbols, seeds=2):
    for run in EXPERIMENTS["fig4"].runs("paper"):
        if run.model.kind == "wrnn":
            for seed in range(seeds):
                seeded = replace(run, seed=seed, trace=not seed)
                store.put(make_record(seeded, metrics={"token_accuracy": symbols}))


def test_without_records_every_question_is_open(tmp_path):
    findings = judged(Store(tmp_path))
    first, *others = front.findings(findings)
    assert len(others) == 4 and first.endswith(f"{len(findings)} are open.")
    assert all("Open: nothing is recorded" in sentence for sentence in others)


def test_changing_one_record_changes_the_sentences(tmp_path):
    store = Store(tmp_path)
    put_copies(store, 100.0)
    before = front.findings(judged(store))
    assert len(before) <= 5 and "1 is reproduced" in before[0]
    assert any("copies every length up to T = 480" in s and "is reproduced: 2" in s for s in before)
    (changed,) = (r for r in store.all() if r.run.task.lag == 490 and r.run.seed == 0)
    store.put(replace(changed, metrics={"token_accuracy": 70.0}))
    after = front.findings(judged(store))
    assert after != before and "1 is inconclusive" in after[0]
    put_copies(store, 70.0)
    assert any("contradict it: 0 of 2 seeds" in s for s in front.findings(judged(store)))


def test_the_first_page_says_what_stands_on_one_seed_and_names_what_has_more(tmp_path):
    store = Store(tmp_path)
    put_copies(store, 100.0, seeds=1)
    first, *_ = front.findings(judged(store))
    assert first.endswith("Of the 1 that are not open, 1 stand on one seed.")
    for run in EXPERIMENTS["table1"].runs("paper"):
        for seed in range(2):
            metrics = {"mse": 0.01, "solved_step": 100, "solved_step_training": 100}
            store.put(make_record(replace(run, seed=seed, trace=False), metrics=metrics))
    findings = judged(store)
    assert "1 stand on one seed" in front.findings(findings)[0]
    (harder,) = (s for s in front.findings(findings) if "longer" in s or "Adding" in s)
    assert "Adding: the wRNN solves every length" in harder


def test_claims_are_grouped_by_verdict_with_number_and_link(tmp_path):
    store = Store(tmp_path)
    put_copies(store, 100.0, seeds=1)
    rows = front.by_verdict(judged(store))
    assert len(rows) == len(claims.CLAIMS)
    verdicts = [row["verdict"] for row in rows]
    order = [f"{MARKS[v]} {v}" for v in (REPRODUCED, HOLDS, CONTRADICTED, OPEN)]
    assert verdicts == sorted(verdicts, key=order.index)
    assert rows[0]["claim"] == "{ref}`Copy: the wRNN copies every length up to T = 480 <sec-copy>`"
    assert rows[0]["recorded"].startswith("1 of 1 seed copied at T = 0, T = 10")

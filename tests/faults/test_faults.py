"""The short form of the fault trials; `make faults` is the long one."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness


def test_nothing_is_lost_wrong_or_loud(tmp_path, monkeypatch):
    monkeypatch.delenv("WRNN_STRICT", raising=False)
    trials = harness.all_kinds(tmp_path, seed=0, scale=1, inputs=400)
    assert trials.notes == []
    assert all(counts.clean for counts in trials.counts.values()), trials.counts
    assert len(trials.counts) == 12
    assert sum(counts.faults for counts in trials.counts.values()) >= 200

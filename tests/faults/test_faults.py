"""The short form of the fault trials; `make faults` is the long one."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness

KINDS = {
    *("kill", "signal", "disk full", "disk failing", "concurrency"),
    *(f"damage to {kind}" for kind in ("record", "arrays", "checkpoint", "archive")),
    *(f"damage to {kind}" for kind in ("decoded images", "image", "MNIST")),
    *(f"bad input, {kind}" for kind in ("models", "tasks", "command line", "parameters")),
    "bad input, chapter executed",
}


def test_nothing_is_lost_wrong_or_loud(tmp_path, monkeypatch):
    monkeypatch.setenv("WRNN_STRICT", "")  # restored after the trials, which unset it
    (trials,) = harness.in_rounds(tmp_path, seed=0)
    assert trials.notes == []
    assert trials.counts.keys() == KINDS
    assert all(counts.clean and counts.faults for counts in trials.counts.values()), trials.counts
    assert sum(counts.faults for counts in trials.counts.values()) >= 300

import os
import subprocess
import sys

import pytest

from wrnn.experiments import EXPERIMENTS
from wrnn.records import Store


def call(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-c", "from wrnn.cli import main; main()", *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )


def test_run_trains_what_is_missing_and_status_counts_it(tmp_path):
    (tmp_path / "_toc.yml").touch()
    first = call("run", "fig3", "--profile", "smoke", "--device", "cpu", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "2 of 2 records" in first.stdout
    store = Store(tmp_path / "_build" / "records")
    before = {path: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    second = call("run", "fig3", "--profile", "smoke", "--device", "cpu", cwd=tmp_path)
    assert "2 of 2 records" in second.stdout
    assert {path: path.stat().st_mtime_ns for path in store.folder.iterdir()} == before
    status = call("status", cwd=tmp_path)
    assert status.returncode == 0, status.stderr
    rows = [line.split() for line in status.stdout.splitlines()]
    assert ["fig3", "smoke", "2/2"] in [row[:3] for row in rows]
    assert ["fig3", "paper", "0/9"] in [row[:3] for row in rows]


def test_time_limit_steps_and_match(tmp_path):
    stopped = call(
        "run", "fig3", "--profile", "quick", "--device", "cpu", "--time-limit", "0.01", cwd=tmp_path
    )
    assert stopped.returncode == 0, stopped.stderr
    assert "2 left" in stopped.stdout
    only = call(
        *("run", "fig3", "--profile", "smoke", "--steps", "5", "--match", "iRNN"), cwd=tmp_path
    )
    assert "1 of 1 records" in only.stdout
    (record,) = Store(tmp_path / "_build" / "records").all()
    assert (record.run.steps, record.run.model.kind) == (5, "irnn")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "fig99"], "unknown experiment 'fig99'"),
        (["run", "fig3", "--profile", "huge"], "smoke, quick, paper"),
        (["run", "fig3", "--device", "tpu"], "auto, cpu or cuda"),
        (["run", "fig3", "--seeds", "0"], "at least 1"),
        (["run", "fig3", "--seeds", "many"], "many"),
        (["run", "fig3", "--time-limit", "-1"], "negative"),
        (["run", "fig3", "--match", "("], "regular expression"),
        (["run", "fig3", "--match", "transformer"], "no run"),
        (["run", "fig3", "--sedes", "2"], "--sedes"),
        (["records", "merge", "nowhere"], "not a folder"),
        (["train"], "train"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, tmp_path):
    result = call(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert list(tmp_path.iterdir()) == []


def test_cuda_is_refused_where_there_is_none(tmp_path):
    result = call("run", "fig3", "--device", "cuda", cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 2
    assert "no CUDA device" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_data_is_one_line_and_leaves_nothing(tmp_path):
    result = call(
        *("run", "fig2", "--profile", "paper", "--records", "records", "--device", "cpu"),
        cwd=tmp_path,
        WRNN_DATA=str(tmp_path / "data"),
        http_proxy="http://127.0.0.1:9",
        https_proxy="http://127.0.0.1:9",
    )
    assert result.returncode == 2
    assert "MNIST" in result.stderr
    assert not list(tmp_path.glob("records/*.json"))


def test_a_corrupt_record_is_one_line(tmp_path):
    run = EXPERIMENTS["fig3"].runs("smoke")[0]
    path = Store(tmp_path / "records").path(run)
    path.parent.mkdir()
    path.write_text("{")
    result = call("run", "fig3", "--profile", "smoke", "--records", "records", cwd=tmp_path)
    assert result.returncode == 2
    assert path.name in result.stderr
    assert result.stderr.count("\n") == 1
    assert path.read_text() == "{"

import json
import multiprocessing
from dataclasses import replace

import pytest
from samples import COPY, make_record

from companion.records.files import Store, write_atomically
from companion.runs.run import Run
from wrnn import WrnnError
from wrnn.tasks import CopyTask


def test_a_record_reads_back_equal_and_its_file_is_byte_stable(tmp_path):
    store = Store(tmp_path)
    store.put(make_record())
    content = store.path(COPY).read_bytes()
    assert store.get(COPY) == make_record()
    store.put(store.get(COPY))
    assert store.path(COPY).read_bytes() == content
    assert store.all() == [make_record()]


def test_the_id_depends_on_every_field_of_the_run():
    changed = [
        replace(COPY, seed=1),
        replace(COPY, steps=4),
        replace(COPY, profile="quick"),
        replace(COPY, task=CopyTask(10, layout="text")),
        replace(COPY, model=replace(COPY.model, velocity=0.5)),
        replace(COPY, drop_steps=(2,)),
    ]
    assert len({run.id for run in [COPY, *changed]}) == 1 + len(changed)
    assert all(Run.from_dict(json.loads(json.dumps(r.to_dict()))) == r for r in changed)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: text.replace('"steps": 3', '"steps": 4'),
        lambda text: text.replace('"metrics"', '"results"'),
        lambda text: text.replace('"copy"', '"sorting"'),
        lambda text: "[1, 2]",
    ],
)
def test_a_damaged_record_is_one_line_that_names_the_file(damage, tmp_path):
    store = Store(tmp_path)
    store.put(make_record())
    path = store.path(COPY)
    path.write_text(damage(path.read_text()))
    with pytest.raises(WrnnError, match="not a valid record") as caught:
        store.get(COPY)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_interrupted_write_leaves_the_old_file_and_no_scratch(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("companion.records.files.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def _try_to_claim(folder, queue):
    with Store(folder).claim(COPY) as claimed:
        queue.put(claimed)


def test_a_run_is_held_by_one_process_at_a_time(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    store = Store(tmp_path)
    with store.claim(COPY) as claimed:
        assert claimed
        process = context.Process(target=_try_to_claim, args=(tmp_path, queue))
        process.start()
        assert queue.get(timeout=60) is False
        process.join()
    with store.claim(COPY) as claimed:
        assert claimed
    assert list(tmp_path.iterdir()) == []

import io
import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import COPY, make_record

from companion.cli import status
from companion.page.chapter import Chapter
from companion.records import checks
from companion.records.files import WEIGHTS, DamagedFile, DamageWarning, Store, write_atomically
from companion.records.table import records_table
from companion.runs.experiments import EXPERIMENTS
from companion.runs.run import Run
from wrnn.tasks import CopyTask

OTHER = replace(COPY, seed=1)


@pytest.fixture
def store(tmp_path) -> Store:
    """A store with one record."""
    store = Store(tmp_path / "records")
    store.put(make_record())
    return store


def test_a_record_reads_back_equal_and_its_file_is_byte_stable(store):
    content = store.path(COPY).read_bytes()
    assert store.get(COPY) == make_record() and store.get(OTHER) is None
    store.put(store.get(COPY))
    assert store.path(COPY).read_bytes() == content
    (found,) = store.all()
    assert found == make_record()  # curves included, which are read now
    assert found.to_json().encode() == content


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


# Damage: of a record with a checksum, and of an older one, which the schema is left for

SEALED = {
    "cut short": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "no object": lambda text: "[1, 2]",
    "too deep": lambda text: "[" * 100_000,
    "another value": lambda text: text.replace('"steps": 30', '"steps": 40'),
    "another curve": lambda text: text.replace("2.0", "2.5"),
    "no curve": lambda text: text.replace('"curves"', '"carves"'),
    "not finite": lambda text: text.replace("2.0", "NaN"),
    "a field twice": lambda text: text.replace('"threads": 1', '"threads": 1, "threads": 1'),
    "no checksum": lambda text: text.replace('"checksum"', '"checksun"'),
}
UNSEALED = {
    "'threads' is of a wrong type": {"threads": "1"},
    "'seconds' is of a wrong type": {"seconds": None},
    "it holds NaN": {"seconds": float("nan")},
    "'diverged' is of a wrong type": {"diverged": 0},
    "'metrics' is of a wrong type": {"metrics": {"mse": "low"}},
    "'curves' is of a wrong type": {"curves": {"loss": [[1, 2, 3]]}},
    "'curves' is of a wrong type, or": {"curves": {"loss": [[1, True]]}},
    "'stopped' is of a wrong type": {"stopped": "early"},
    "an unknown 'colour'": {"colour": "blue"},
    "no 'commit'": {"commit": ...},
    "task name must be one of": {"run": COPY.to_dict() | {"task": {"name": "sorting"}}},
    "its run has the id": {"run": OTHER.to_dict()},
}


def unsealed(changes: dict) -> str:
    """The text of a record from before the checksum, with changed fields."""
    values = make_record().values() | changes
    return json.dumps({name: value for name, value in values.items() if value is not ...})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((damage(make_record().to_json()), "") for damage in SEALED.values()),
        (unsealed({}).replace("60.0", "1e999"), "not finite"),
        *((unsealed(changes), message) for message, changes in UNSEALED.items()),
    ],
    ids=[*SEALED, "too large", *UNSEALED],
)
def test_a_damaged_record_is_one_line_that_names_the_file(text, message, store):
    path = store.path(COPY)
    path.write_text(unsealed({}))
    assert store.get(COPY) == make_record()
    path.write_text(text)
    with pytest.raises(DamagedFile, match=f"(?s){path.name}.*not a valid record.*{message}") as got:
        store.get(COPY)
    assert "\n" not in str(got.value)
    assert [str(error) for error in store.scan()[1]] == [str(got.value)]


def test_no_flipped_bit_of_a_record_goes_unnoticed(store):
    path = store.path(COPY)
    content = path.read_bytes()
    for place in range(len(content) - 1):  # all but the last, which ends the line
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert len(store.scan()[1]) == 1


def test_bad_files_are_reported_once_each_and_all_else_goes_on(store, monkeypatch):
    monkeypatch.delenv("WRNN_STRICT", raising=False)
    store.put(make_record(OTHER))
    store.path(OTHER).write_text(store.path(OTHER).read_text()[:-50])
    (store.folder / "notes.json").write_text("{}")
    (store.folder / "folder.json").mkdir()
    os.mkfifo(store.folder / "pipe.json")
    (store.folder / "link.json").symlink_to("/dev/zero")
    (store.folder / "gone.json").symlink_to("nowhere")
    with pytest.warns(DamageWarning) as caught:
        assert store.all() == [make_record()]
    named = sorted(Path(str(w.message).split(" is damaged")[0]).stem for w in caught)
    assert named == sorted([OTHER.id, "folder", "link", "notes", "pipe"])
    with pytest.warns(DamageWarning, match="restore or delete it"):
        assert store.find(OTHER) is None
    assert store.find(COPY) == make_record()
    monkeypatch.setenv("WRNN_STRICT", "1")
    with pytest.raises(DamagedFile):
        store.all()


def test_what_lies_in_folders_beside_records_is_no_record(store, monkeypatch):
    """As the counts of the fault trials do."""
    monkeypatch.setenv("WRNN_STRICT", "1")
    (store.folder / "faults").mkdir()
    (store.folder / "faults" / "faults.json").write_text('{"kinds": {}}')
    assert store.all() == [make_record()]


def arrays(size: int = 40) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, hidden=np.arange(size), **{f"{WEIGHTS}a.b": np.ones(3)})
    return file.getvalue()


def test_arrays_are_checked_against_the_record_and_named_where_they_are_gone(store):
    put = store.put(make_record(), arrays())
    (record,) = store.all()
    assert record == put and put.trace_path == record.trace_path
    assert record.trace()["hidden"].tolist() == list(range(40))
    assert record.weights()["a.b"].tolist() == [1.0] * 3
    for content in (arrays()[:-1], arrays() + b"0", b"", arrays(41)):
        record.trace_path.write_bytes(content)
        with pytest.warns(DamageWarning, match=f"{COPY.id}.npz is damaged"):
            assert record.trace() is None
    record.trace_path.unlink()
    with pytest.warns(DamageWarning, match="it is gone"):
        assert store.get(COPY).weights() is None


def test_the_committed_records_and_their_arrays_are_whole():
    records, damaged = Store(Path(__file__).parents[1] / "records").scan(curves=True)
    assert len(records) > 250 and not damaged
    for record in records:
        record.checked_arrays()


def test_a_folder_is_read_once_and_curves_where_they_are_looked_at(store, monkeypatch):
    """By `wrnn status` and by a chapter: what is counted is how often each file is opened."""
    for seed in range(1, 30):
        store.put(make_record(replace(COPY, seed=seed)))
    monkeypatch.setenv("WRNN_RECORDS", str(store.folder))
    monkeypatch.chdir(store.folder.parent)
    opened, read = [], checks.read_bounded
    monkeypatch.setattr(
        checks, "read_bounded", lambda path, suffix: (opened.append(path), read(path, suffix))[1]
    )
    page = Chapter(profile="quick", device="cpu", train=False)
    tables = []
    for work in (
        status,
        lambda: tables.append(records_table(page.committed)),
        lambda: [page.recorded(name) for name in EXPERIMENTS],
    ):
        work()
        assert sorted(opened) == sorted(store.folder.iterdir())
        opened.clear()
    (first, *_) = tables[0]["record"]
    assert first.curves["loss"] == first.curves["loss"] == make_record().curves["loss"]
    assert opened == [first.path]


# Writing


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


def test_a_run_with_a_lock_of_another_account_counts_as_held(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.path(COPY, ".lock").touch()

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert store.is_held(COPY)
    with store.claim(COPY) as claimed:
        assert not claimed
    store.path(COPY, ".lock").unlink()
    with pytest.raises(PermissionError), store.claim(COPY):
        pass  # the folder cannot be written


def test_a_file_that_is_whole_is_not_called_damaged(store, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("companion.records.checks.read_bounded", refuse)
    with pytest.raises(DamagedFile, match=r"cannot be used \(Permission denied\)$"):
        store.get(COPY)

import io
import json
import multiprocessing
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import COPY, make_record

from companion.cli import status
from companion.page.chapter import Chapter
from companion.records import archive, checks, index
from companion.records.files import (
    WEIGHTS,
    DamagedFile,
    DamageWarning,
    Record,
    Store,
    write_atomically,
)
from companion.records.table import records_table
from companion.runs.experiments import EXPERIMENTS
from companion.runs.run import Run
from wrnn import WrnnError
from wrnn.tasks import CopyTask

OTHER = replace(COPY, seed=1)


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
        lambda text: "[" * 100_000,
        lambda text: text.replace("2.0", "NaN"),
        lambda text: text.replace("2.0", "1e999"),
        lambda text: text.replace("2.0", "2.5"),  # valid, but not what was written
        lambda text: text.replace('"checksum"', '"checksun"'),
        lambda text: text.replace('"threads": 1', '"threads": 1, "threads": 1'),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threads": "1"}, "'threads' is of a wrong type"),
        ({"seconds": None}, "'seconds' is of a wrong type"),
        ({"diverged": 0}, "'diverged' is of a wrong type"),
        ({"metrics": {"mse": "low"}}, "'metrics' is of a wrong type"),
        ({"curves": {"loss": [[1, 2, 3]]}}, "'curves' is of a wrong type"),
        ({"curves": {"loss": [[1, True]]}}, "'curves' is of a wrong type"),
        ({"stopped": "early"}, "'stopped' is of a wrong type"),
        ({"colour": "blue"}, "an unknown 'colour'"),
        ({"commit": ...}, "no 'commit'"),
    ],
)
def test_a_record_without_a_checksum_is_held_to_the_schema(change, message, tmp_path):
    """As records from before the checksum are; one that fits is valid."""
    store = Store(tmp_path)
    values = make_record().values()
    store.path(COPY).write_text(json.dumps(values))
    assert store.get(COPY) == make_record()
    changed = {name: value for name, value in {**values, **change}.items() if value is not ...}
    store.path(COPY).write_text(json.dumps(changed))
    with pytest.raises(DamagedFile, match=message):
        store.get(COPY)


def test_no_flipped_bit_of_a_record_goes_unnoticed(tmp_path):
    store = Store(tmp_path)
    store.put(make_record())
    content = store.path(COPY).read_bytes()
    for place in range(len(content) - 1):  # all but the last, which ends the line
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        store.path(COPY).write_bytes(damaged)
        with pytest.raises(DamagedFile):
            store.get(COPY)


def bad_files(store: Store) -> None:
    store.put(make_record())
    store.put(make_record(OTHER))
    store.path(OTHER).write_text(store.path(OTHER).read_text()[:-50])
    (store.folder / "notes.json").write_text("{}")
    (store.folder / "folder.json").mkdir()
    os.mkfifo(store.folder / "pipe.json")
    (store.folder / "link.json").symlink_to("/dev/zero")
    (store.folder / "gone.json").symlink_to("nowhere")


def test_bad_files_are_reported_once_each_and_all_else_goes_on(tmp_path, monkeypatch):
    monkeypatch.delenv("WRNN_STRICT", raising=False)
    store = Store(tmp_path)
    bad_files(store)
    with pytest.warns(DamageWarning) as caught:
        assert store.all() == [make_record()]
    named = sorted(Path(str(w.message).split(" is damaged")[0]).name for w in caught)
    assert named == sorted(
        [f"{OTHER.id}.json", "folder.json", "link.json", "notes.json", "pipe.json"]
    )
    with pytest.warns(DamageWarning, match="restore or delete it"):
        assert store.find(OTHER) is None
    assert store.find(COPY) == make_record()
    monkeypatch.setenv("WRNN_STRICT", "1")
    with pytest.raises(DamagedFile):
        store.all()


def arrays() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, hidden=np.arange(40), **{f"{WEIGHTS}a.b": np.ones(3)})
    return file.getvalue()


def test_arrays_are_checked_against_the_record_and_named_where_they_are_gone(tmp_path):
    store = Store(tmp_path)
    put = store.put(make_record(), arrays())
    record = store.get(COPY)
    assert record == put and put.trace_path == record.trace_path
    assert record.trace()["hidden"].tolist() == list(range(40))
    assert record.weights()["a.b"].tolist() == [1.0] * 3
    other = io.BytesIO()
    np.savez_compressed(other, hidden=np.arange(41))
    for content in (arrays()[:-1], arrays() + b"0", b"", other.getvalue()):
        record.trace_path.write_bytes(content)
        with pytest.warns(DamageWarning, match=f"{COPY.id}.npz is damaged"):
            assert record.trace() is None
    record.trace_path.unlink()
    with pytest.warns(DamageWarning, match="it is gone"):
        assert store.get(COPY).weights() is None


def test_the_committed_records_and_their_arrays_are_whole(monkeypatch):
    monkeypatch.setenv("WRNN_STRICT", "1")
    records = Store(Path(__file__).parents[1] / "records").all()
    assert len(records) > 250
    for record in records:
        record.checked_arrays()


# The index of a large folder


@pytest.fixture
def large(tmp_path, monkeypatch) -> Store:
    """A store with an index: three records that were written a minute ago."""
    monkeypatch.setattr(index, "FEWEST", 3)
    store = Store(tmp_path)
    for seed in range(3):
        store.put(make_record(replace(COPY, seed=seed)), arrays() if seed == 1 else None)
    monkeypatch.setattr(index, "SETTLED", -1.0)  # their times are told from later ones
    store.all()
    return store


def reads(store: Store, monkeypatch, work=None) -> list[str]:
    """The files that reading the store, or some other work, opens."""
    opened, read = [], checks.read_bounded

    def spy(path, suffix):
        opened.append(path.name)
        return read(path, suffix)

    with monkeypatch.context() as patch:
        patch.setattr(checks, "read_bounded", spy)
        (work or store.all)()
    return opened


def test_a_large_folder_is_read_from_its_index(large, monkeypatch):
    expected = [Record.from_file(path) for path in sorted(large.folder.glob("[!.]*.json"))]
    assert reads(large, monkeypatch) == []
    found = large.all()
    assert found == expected  # curves included, which are read now
    assert [record.id for record in found] == [record.id for record in expected]
    assert [record.to_json() for record in found] == [record.to_json() for record in expected]
    assert [r.trace() is None for r in found] == [r.trace() is None for r in expected]


def test_the_files_count_and_not_the_index(large, monkeypatch):
    changed, gone, new = (replace(COPY, seed=seed) for seed in (0, 2, 3))
    large.put(make_record(changed, seconds=7.0))
    large.path(gone).unlink()
    large.put(make_record(new))
    assert sorted(reads(large, monkeypatch)) == sorted(f"{run.id}.json" for run in (changed, new))
    assert {r.run.seed: r.seconds for r in large.all()} == {0: 7.0, 1: 60.0, 3: 60.0}
    assert reads(large, monkeypatch) == []


def test_a_change_of_the_same_size_and_time_is_seen(large, monkeypatch):
    path = large.path(COPY)
    before = path.stat()
    path.write_text(path.read_text().replace("60.0", "61.0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.warns(DamageWarning, match="checksum"):
        assert len(large.all()) == 2


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-9], lambda c: b"", lambda c: c.replace(b"60", b"61")]
)
def test_a_damaged_index_is_made_again(damage, large, monkeypatch):
    expected = large.all()
    path = large.folder / ".index"
    path.write_bytes(damage(path.read_bytes()))
    assert large.all() == expected
    assert reads(large, monkeypatch) == []


def test_an_index_that_cannot_be_written_is_done_without(large, monkeypatch):
    (large.folder / ".index").unlink()
    (large.folder / ".index").mkdir()
    assert len(large.all()) == 3
    assert len(reads(large, monkeypatch)) == 3


def test_a_thousand_records_are_read_once_and_then_from_the_index(tmp_path, monkeypatch):
    """By `wrnn status` and by a chapter: what is counted is how many files are opened."""
    store = Store(tmp_path / "records")
    store.folder.mkdir()
    for seed in range(index.FEWEST):
        record = make_record(replace(COPY, seed=seed))
        store.path(record.run).write_text(record.to_json())
    monkeypatch.setenv("WRNN_RECORDS", str(store.folder))
    monkeypatch.setattr(index, "SETTLED", -1.0)
    monkeypatch.chdir(tmp_path)
    indices, read = [], index.read
    monkeypatch.setattr(index, "read", lambda folder: (indices.append(folder), read(folder))[1])
    assert len(reads(store, monkeypatch, status)) == index.FEWEST
    assert reads(store, monkeypatch, status) == []
    assert indices == [store.folder] * 2
    page = Chapter(profile="quick", device="cpu", train=False)
    tables = []
    assert reads(store, monkeypatch, lambda: tables.append(records_table(page.committed))) == []
    assert len(tables[0]) == index.FEWEST
    assert reads(store, monkeypatch, lambda: [page.recorded(name) for name in EXPERIMENTS]) == []
    assert indices == [store.folder] * 4  # the table's, and once for all experiments


def test_what_lies_in_folders_beside_records_is_no_record(tmp_path, monkeypatch):
    """As the counts of the fault trials do."""
    monkeypatch.setenv("WRNN_STRICT", "1")
    monkeypatch.setattr(index, "FEWEST", 0)
    store = Store(tmp_path / "records")
    store.put(make_record())
    (store.folder / "faults").mkdir()
    (store.folder / "faults" / "faults.json").write_text('{"kinds": {}}')
    assert store.all() == [make_record()] == store.all()
    archive.export(store, tmp_path / "records.tar")
    with tarfile.open(tmp_path / "records.tar") as tar:
        assert len(tar.getnames()) == 2  # the checksum of what follows, and the record
    assert archive.merge(Store(tmp_path / "there"), store.folder)["records"] == 1


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

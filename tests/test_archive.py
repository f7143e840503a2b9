import contextlib
import hashlib
import io
import os
import random
import tarfile
import tracemalloc
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import COPY, make_record

from companion.records import archive
from companion.records.files import DamageWarning, Store
from companion.runs.run import Run
from wrnn import WrnnError

TRACED, UNFINISHED, BOTH = (replace(COPY, seed=seed) for seed in (1, 2, 3))


def arrays() -> bytes:
    file = io.BytesIO()
    np.savez(file, hidden=np.arange(4))
    return file.getvalue()


def put_checkpoint(store: Store, run: Run, step: int) -> None:
    store.folder.mkdir(exist_ok=True)
    store.save_checkpoint(run, {"run": run.to_dict(), "step": step})


def contents(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.folder.glob("*")}


def members(file) -> list[str]:
    with tarfile.open(file) as opened:
        return opened.getnames()


def write_tar(file, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """Write a tar with any members under a valid seal, as an attacker would."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w", format=tarfile.USTAR_FORMAT) as opened:
        for member, content in members:
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    seal(file, body.getvalue())


def seal(file, body: bytes) -> None:
    file.write_bytes(archive._seal(hashlib.sha256(body).hexdigest()) + body)


@pytest.fixture
def there(tmp_path) -> Store:
    """A store elsewhere: two records, one with arrays, and an unfinished run."""
    store = Store(tmp_path / "there")
    store.put(make_record(COPY))
    store.put(make_record(TRACED), arrays())
    store.put(make_record(BOTH))
    put_checkpoint(store, BOTH, 20)  # left by a process that was killed after the record
    put_checkpoint(store, UNFINISHED, 20)
    return store


@pytest.fixture
def here(tmp_path) -> Store:
    return Store(tmp_path / "here")


@pytest.fixture
def tar(there, tmp_path):
    file = tmp_path / "records.tar"
    archive.export(there, file)
    return file


def test_what_is_exported_arrives_byte_for_byte(there, here, tar, tmp_path):
    counts = archive.merge(here, tar)
    assert counts == {"records": 3, "checkpoints": 1}
    without_leftover = contents(there)
    del without_leftover[f"{BOTH.id}.checkpoint"]
    assert contents(here) == without_leftover
    counts = archive.export(here, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == tar.read_bytes()
    assert counts == {"records": 3, "checkpoints": 1, "bytes": tar.stat().st_size}


def test_an_archive_is_a_plain_tar_that_holds_no_more_than_it_says(there, tar, tmp_path):
    assert members(tar) == [
        "wrnn-records.sha256",
        *sorted(
            [
                *(f"{run.id}.json" for run in (COPY, TRACED, BOTH)),
                f"{TRACED.id}.npz",
                f"{UNFINISHED.id}.checkpoint",
            ]
        ),
    ]
    counts = archive.export(there, tmp_path / "small.tar", checkpoints=False)
    assert counts["checkpoints"] == 0
    assert f"{UNFINISHED.id}.checkpoint" not in members(tmp_path / "small.tar")


def test_an_existing_file_is_overwritten_only_when_told(there, tar):
    before = tar.read_bytes()
    there.put(make_record(replace(COPY, seed=9)))
    with pytest.raises(WrnnError, match="--overwrite"):
        archive.export(there, tar)
    assert tar.read_bytes() == before
    archive.export(there, tar, overwrite=True)
    assert len(members(tar)) == 7


def test_an_interrupted_export_leaves_nothing(there, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("companion.records.files.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        archive.export(there, tmp_path / "out" / "records.tar")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("from_tar", [True, False])
def test_merging_twice_changes_nothing(from_tar, there, here, tar):
    source = tar if from_tar else there.folder
    archive.merge(here, source)
    before = {path: path.stat().st_mtime_ns for path in here.folder.iterdir()}
    assert archive.merge(here, source) == {"kept": 4}
    assert {path: path.stat().st_mtime_ns for path in here.folder.iterdir()} == before


def test_a_record_that_is_here_stays(here, tar):
    here.put(make_record(COPY, seconds=7.0))
    assert archive.merge(here, tar) == {"records": 2, "checkpoints": 1, "kept": 1}
    assert here.get(COPY).seconds == 7.0


@pytest.mark.parametrize(("step", "taken"), [(10, True), (20, False), (29, False)])
def test_a_checkpoint_is_taken_only_where_it_is_further(step, taken, here, tar):
    put_checkpoint(here, UNFINISHED, step)
    before = contents(here)[f"{UNFINISHED.id}.checkpoint"]
    assert archive.merge(here, tar)["checkpoints"] == taken
    assert (contents(here)[f"{UNFINISHED.id}.checkpoint"] != before) is taken


def test_a_checkpoint_never_stands_beside_its_record(here, tar):
    put_checkpoint(here, COPY, 29)
    here.put(make_record(UNFINISHED))
    archive.merge(here, tar)
    assert not list(here.folder.glob("*.checkpoint"))


def test_a_run_in_training_here_is_left_alone(here, tar):
    with here.claim(COPY), here.claim(UNFINISHED):
        assert archive.merge(here, tar) == {"records": 2, "busy": 2}
    assert here.get(COPY) is None
    assert archive.merge(here, tar) == {"records": 1, "checkpoints": 1, "kept": 2}
    assert not list(here.folder.glob("*.lock"))


def refused(here: Store, source, message: str) -> None:
    before = contents(here)
    with pytest.raises(WrnnError, match=message) as caught:
        archive.merge(here, source)
    assert "\n" not in str(caught.value)
    assert source.name in str(caught.value)
    assert contents(here) == before


def test_a_truncated_archive_is_refused_at_every_length(here, tar, tmp_path):
    here.put(make_record(COPY, seconds=7.0))
    content = tar.read_bytes()
    cut = tmp_path / "cut.tar"
    lengths = {0, 1, 18, 19, 20, 511, 512, 513, 1024, 1025, len(content) - 1}
    lengths |= set(range(0, len(content), 509))
    for length in sorted(lengths):
        cut.write_bytes(content[:length])
        refused(here, cut, "cut short or damaged")
    cut.write_bytes(content + b"\0")
    refused(here, cut, "cut short or damaged")


def test_every_flipped_bit_is_noticed(here, tar, tmp_path):
    here.put(make_record(COPY, seconds=7.0))
    content = tar.read_bytes()
    draw = random.Random(0)
    flipped = tmp_path / "flipped.tar"
    places = [*range(1024), *(draw.randrange(1024, len(content)) for _ in range(500))]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << draw.randrange(8)
        flipped.write_bytes(damaged)
        refused(here, flipped, "cut short or damaged|not an archive")


def test_what_is_no_archive_is_refused(here, there, tmp_path):
    foreign = tmp_path / "foreign.tar"
    with tarfile.open(foreign, "w") as opened:
        opened.add(there.path(COPY), f"{COPY.id}.json")
    refused(here, foreign, "not an archive")
    foreign.write_bytes(b"text" * 1000)
    refused(here, foreign, "not an archive")
    refused(here, tmp_path / "nowhere", "there is no")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(here, empty, "no records")
    with pytest.raises(WrnnError, match="no records"):
        archive.export(Store(empty), tmp_path / "records.tar")
    assert not here.folder.exists()


def link(kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(f"{COPY.id}.json")
    member.type, member.linkname = kind, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    "member",
    [
        *(
            tarfile.TarInfo(name)
            for name in (
                f"../{COPY.id}.json",
                f"/tmp/{COPY.id}.json",
                f"folder/{COPY.id}.json",
                f"./{COPY.id}.json",
                f"{COPY.id}.json\n",
                f"{COPY.id}.lock",
                f"{COPY.id}.py",
                "wrnn-records.sha256",
            )
        ),
        *(link(kind) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE)),
    ],
    ids=lambda member: f"{member.name!r}, type {member.type.decode()}",
)
def test_no_member_leaves_the_folder_or_is_no_file_of_a_run(member, here, there, tmp_path):
    content = there.path(COPY).read_bytes()
    good = tarfile.TarInfo(f"{TRACED.id}.json")
    file = tmp_path / "crafted.tar"
    is_file = member.type == tarfile.REGTYPE
    write_tar(
        file,
        [(good, there.path(TRACED).read_bytes()), (member, content if is_file else b"")],
    )
    refused(here, file, "which no archive of records")
    assert not (tmp_path / f"{COPY.id}.json").exists()


BAD = pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".json", b"{", "not a valid record"),
        (".npz", b"arrays", "npz is damaged"),
        (".npz", arrays()[:-5], "npz is damaged"),
        (".checkpoint", b"checkpoint", "not a usable checkpoint"),
    ],
)


@BAD
def test_one_bad_file_in_a_folder_is_named_and_all_else_goes_on(
    suffix, content, message, here, there, tmp_path, monkeypatch
):
    run = UNFINISHED if suffix == ".checkpoint" else TRACED
    there.path(run, suffix).write_bytes(content)
    with pytest.warns(DamageWarning, match=message):
        counts = archive.export(there, tmp_path / "records.tar")
    lost = {"records": 3 - (run == TRACED), "checkpoints": 1 - (run == UNFINISHED)}
    assert {name: counts[name] for name in lost} == lost
    with pytest.warns(DamageWarning, match=message):
        archive.merge(here, there.folder)
    again = Store(tmp_path / "again")
    assert archive.merge(again, tmp_path / "records.tar") == +Counter(lost)
    assert contents(again) == contents(here)
    monkeypatch.setenv("WRNN_STRICT", "1")
    refused(here, there.folder, message)


@BAD
def test_one_bad_file_in_an_archive_stops_the_merge_before_it_begins(
    suffix, content, message, here, there, tmp_path
):
    run = UNFINISHED if suffix == ".checkpoint" else TRACED
    there.path(run, suffix).write_bytes(content)
    source = tmp_path / "crafted.tar"
    write_tar(source, [(tarfile.TarInfo(name), data) for name, data in contents(there).items()])
    refused(here, source, message)
    assert not here.folder.exists()


def test_a_checkpoint_or_record_under_another_name_is_left_out(here, there):
    put_checkpoint(there, COPY, 3)
    there.path(COPY, ".checkpoint").rename(there.path(UNFINISHED, ".checkpoint"))
    with pytest.warns(DamageWarning, match="another run"):
        archive.merge(here, there.folder)
    there.path(UNFINISHED, ".checkpoint").unlink()
    there.path(COPY).rename(there.path(UNFINISHED))
    with pytest.warns(DamageWarning, match="has the id"):
        archive.merge(here, there.folder)
    assert not here.path(UNFINISHED).exists()
    assert not here.path(UNFINISHED, ".checkpoint").exists()


@pytest.mark.parametrize("kind", ["directory", "pipe", "device"])
def test_what_is_no_regular_file_is_never_replaced_or_read(kind, here, there, tmp_path):
    place = tmp_path / "place"
    if kind == "directory":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place = Path("/dev/null")
    with pytest.raises(WrnnError, match="not a regular file"):
        archive.export(there, place, overwrite=True)
    assert not place.is_file()
    if kind != "directory":
        refused(here, place, "not a regular file")


# Bombs: what unfolds to more than it holds

HUGE = 1 << 40


def sparse() -> bytes:
    """A GNU sparse file of a terabyte that takes a kilobyte."""
    member = tarfile.TarInfo(f"{COPY.id}.json")
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:410] = b"%011o\0%011o\0" % (0, 0)
    header[483:495] = b"\x80" + HUGE.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(2 * tarfile.BLOCKSIZE)


def declared() -> bytes:
    """A member that says to hold a terabyte."""
    member = tarfile.TarInfo(f"{COPY.id}.json")
    member.size = HUGE
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(2 * tarfile.BLOCKSIZE)


def zip_of(content: bytes, name: str = "hidden.npy") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(name, content)
    return file.getvalue()


def npy(shape: str, data: bytes) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


@contextlib.contextmanager
def little_memory():
    """Hold that no more is taken than a few of the largest files need."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6, f"{peak / 1e6:.0f} MB"


@pytest.mark.parametrize("bomb", [sparse, declared])
def test_a_member_larger_than_any_file_of_its_kind_is_refused(bomb, here, tmp_path):
    file = tmp_path / "bomb.tar"
    seal(file, bomb())
    with little_memory():
        refused(here, file, "which no archive|than the 10,000,000 of any|no archive of records")


@pytest.mark.parametrize(
    "content",
    [
        zip_of(bytes(200_000_000)),
        zip_of(npy(f"({HUGE},)", bytes(8))),
        zip_of(npy("(3,)", bytes(8))),
        zip_of(npy("(1,)", bytes(8)).replace(b"<f8", b"|O8")),
    ],
    ids=["expands", "declares", "short", "objects"],
)
def test_arrays_that_take_more_than_they_hold_are_refused(content, here, there, tmp_path):
    there.path(TRACED, ".npz").write_bytes(content)
    source = tmp_path / "crafted.tar"
    write_tar(source, [(tarfile.TarInfo(name), data) for name, data in contents(there).items()])
    with little_memory():
        refused(here, source, "npz is damaged")


def test_a_checkpoint_that_unfolds_is_refused(there, here):
    body = zip_of(bytes(200_000_000), "archive/data.pkl")
    head = b"wrnn checkpoint, sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"
    there.path(UNFINISHED, ".checkpoint").write_bytes(head + body)
    with little_memory(), pytest.warns(DamageWarning, match="unfolds"):
        archive.merge(here, there.folder)
    assert not here.path(UNFINISHED, ".checkpoint").exists()

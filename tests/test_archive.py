import hashlib
import io
import json
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
from companion.records.checks import seal_record
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


def state(store: Store) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in store.folder.iterdir()}


@pytest.fixture
def there(tmp_path) -> Store:
    """A store elsewhere: three records, one with arrays, and an unfinished run."""
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
    assert archive.merge(here, tar) == {"records": 3, "checkpoints": 1}
    expected = contents(there)
    del expected[f"{BOTH.id}.checkpoint"]
    assert contents(here) == expected
    again, small = tmp_path / "again.tar", tmp_path / "small.tar"
    counts = archive.export(here, again)
    assert again.read_bytes() == tar.read_bytes()
    assert counts == {"records": 3, "checkpoints": 1, "bytes": tar.stat().st_size}
    assert archive.export(there, small, checkpoints=False)["checkpoints"] == 0
    for file, absent in ((tar, set()), (small, {f"{UNFINISHED.id}.checkpoint"})):
        with tarfile.open(file) as opened:  # a plain tar
            first, *names = opened.getnames()
        assert (first, names) == ("wrnn-records.sha256", sorted(expected.keys() - absent))


def test_an_existing_file_is_overwritten_only_when_told(there, tar):
    before = tar.read_bytes()
    there.put(make_record(replace(COPY, seed=9)))
    with pytest.raises(WrnnError, match="--overwrite"):
        archive.export(there, tar)
    assert tar.read_bytes() == before
    assert archive.export(there, tar, overwrite=True)["records"] == 4


@pytest.mark.parametrize("from_tar", [True, False])
def test_merging_twice_changes_nothing(from_tar, there, here, tar):
    source = tar if from_tar else there.folder
    archive.merge(here, source)
    before = state(here)
    assert archive.merge(here, source) == {"kept": 4}
    assert state(here) == before


def test_a_record_that_is_here_stays(here, tar):
    here.put(make_record(COPY, seconds=7.0))
    assert archive.merge(here, tar) == {"records": 2, "checkpoints": 1, "kept": 1}
    assert here.get(COPY).seconds == 7.0


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_damaged_record_is_set_aside_and_copied(suffix, here, tar):
    archive.merge(here, tar)
    path = here.path(TRACED, suffix)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(DamageWarning, match=path.name):
        assert archive.merge(here, tar) == {"records": 1, "kept": 3}
    assert here.get(TRACED).checked_arrays()["hidden"].tolist() == [0, 1, 2, 3]
    assert path.with_name(f"{path.name}.damaged").exists()


def test_a_record_of_another_version_is_not_replaced(here, tar):
    archive.merge(here, tar)
    path = here.path(COPY)
    newer = json.dumps(make_record(COPY).values() | {"energy": 1.0})
    path.write_text(seal_record(newer))
    with pytest.warns(DamageWarning, match="of another version: it has an unknown 'energy'"):
        assert archive.merge(here, tar) == {"kept": 4}
    assert "energy" in path.read_text()


@pytest.mark.parametrize(("step", "taken"), [(10, True), (20, False), (29, False)])
def test_a_checkpoint_is_taken_only_where_it_is_further(step, taken, here, tar):
    put_checkpoint(here, UNFINISHED, step)
    archive.merge(here, tar)
    assert here.checkpoint(UNFINISHED)["step"] == (20 if taken else step)


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


# What is refused: the whole archive, before anything is written


def refused(here: Store, source: Path, message: str) -> None:
    before = contents(here)
    tracemalloc.start()
    with pytest.raises(WrnnError, match=message) as caught:
        archive.merge(here, source)
    assert tracemalloc.get_traced_memory()[1] < 50e6, "more than a few of the largest files need"
    tracemalloc.stop()
    assert source.name in str(caught.value) and "\n" not in str(caught.value)
    assert contents(here) == before


def sealed(body: bytes) -> bytes:
    """An archive with any content under a valid seal, as an attacker would make it."""
    return archive._seal(hashlib.sha256(body).hexdigest()) + body


def tar_of(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w", format=tarfile.USTAR_FORMAT) as opened:
        for member, content in members:
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return body.getvalue()


def test_every_cut_and_every_flipped_bit_is_noticed(here, tar, tmp_path):
    here.put(make_record(COPY, seconds=7.0))
    content, draw = tar.read_bytes(), random.Random(0)
    lengths = {0, 1, 18, 19, 20, 511, 512, 513, 1024, 1025, *range(0, len(content), 509)}
    damaged = [content[:length] for length in sorted(lengths)] + [content[:-1], content + b"\0"]
    for place in [*range(1024), *(draw.randrange(1024, len(content)) for _ in range(500))]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        damaged.append(bytes(flipped))
    file = tmp_path / "damaged.tar"
    for content in damaged:
        file.write_bytes(content)
        refused(here, file, "cut short or damaged|not an archive")


HUGE = 1 << 40
GOOD = make_record(TRACED).to_json().encode()


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    info.linkname = "" if kind == tarfile.REGTYPE else "/etc/passwd"
    return info


def sparse() -> bytes:
    """A GNU sparse file of a terabyte that takes a kilobyte."""
    header = bytearray(member(f"{COPY.id}.json").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:410] = b"%011o\0%011o\0" % (0, 0)
    header[483:495] = b"\x80" + HUGE.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(2 * tarfile.BLOCKSIZE)


def declared() -> bytes:
    """A member that says to hold a terabyte."""
    header = member(f"{COPY.id}.json", size=HUGE).tobuf(tarfile.GNU_FORMAT)
    return header + bytes(2 * tarfile.BLOCKSIZE)


NAMES = (
    "../{}.json",
    "/tmp/{}.json",
    "folder/{}.json",
    "./{}.json",
    "{}.json\n",
    "{}.lock",
    "{}.py",
)
KINDS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE)
NO_ARCHIVES = {
    "text": (b"text" * 1000, "not an archive"),
    "another tar": (tar_of([(member(f"{TRACED.id}.json"), GOOD)]), "not an archive"),
    "nothing": (sealed(tar_of([])), "holds no records"),
    "sparse": (sealed(sparse()), "which no archive of records"),
    "declared": (sealed(declared()), "than the 10,000,000 of any|no archive of records"),
}
for odd in (
    *(member(name.format(COPY.id)) for name in (*NAMES, "wrnn-records.sha256")),
    *(member(f"{COPY.id}.json", kind) for kind in KINDS),
):
    content = tar_of([(member(f"{TRACED.id}.json"), GOOD), (odd, b"")])
    NO_ARCHIVES[f"{odd.name!r}, type {odd.type}"] = sealed(content), "which no archive of records"


@pytest.mark.parametrize(("content", "message"), NO_ARCHIVES.values(), ids=NO_ARCHIVES)
def test_what_is_no_archive_of_records_is_refused(content, message, here, tmp_path):
    file = tmp_path / "crafted.tar"
    file.write_bytes(content)
    refused(here, file, message)
    assert not here.folder.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"crafted.tar"}


def test_what_is_not_there_or_empty_is_refused(here, tmp_path):
    refused(here, tmp_path / "nowhere", "there is no")
    refused(here, tmp_path, "no records")
    with pytest.raises(WrnnError, match="no records"):
        archive.export(Store(tmp_path), tmp_path / "records.tar")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["directory", "pipe", "device"])
def test_what_is_no_regular_file_is_never_replaced_or_read(kind, here, there, tmp_path):
    place = Path("/dev/null") if kind == "device" else tmp_path / "place"
    {"directory": place.mkdir, "pipe": lambda: os.mkfifo(place)}.get(kind, place.exists)()
    with pytest.raises(WrnnError, match="not a regular file"):
        archive.export(there, place, overwrite=True)
    assert not place.is_file()
    if kind != "directory":
        refused(here, place, "not a regular file")


# One bad file: a folder goes on without it, an archive is refused


def zip_of(content: bytes, name: str = "hidden.npy") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(name, content)
    return file.getvalue()


def npy(shape: str, data: bytes, dtype: str = "<f8") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    header = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


def checkpoint_of(body: bytes) -> bytes:
    return b"wrnn checkpoint, sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def odd_curves() -> bytes:
    """A record whose curves no schema allows, under a valid checksum."""
    curves = {"loss": [[1, 2.0, 3.0]]}
    return make_record(TRACED, curves=curves).to_json().encode()


BAD = {
    "record": (".json", b"{", "not a valid record"),
    "curves": (".json", odd_curves(), "'curves' is of a wrong type"),
    "name of a record": (".json", make_record(COPY).to_json().encode(), "has the id"),
    "arrays": (".npz", b"arrays", "npz is damaged"),
    "end of arrays": (".npz", arrays()[:-5], "npz is damaged"),
    "expanding arrays": (".npz", zip_of(bytes(200_000_000)), "npz is damaged"),
    "arrays that declare more": (".npz", zip_of(npy(f"({HUGE},)", bytes(8))), "npz is damaged"),
    "arrays that hold less": (".npz", zip_of(npy("(3,)", bytes(8))), "npz is damaged"),
    "arrays of objects": (".npz", zip_of(npy("(1,)", bytes(8), "|O8")), "npz is damaged"),
    "checkpoint": (".checkpoint", b"checkpoint", "not a usable checkpoint"),
    "expanding checkpoint": (
        ".checkpoint",
        checkpoint_of(zip_of(bytes(200_000_000), "archive/data.pkl")),
        "unfolds",
    ),
    "name of a checkpoint": (".checkpoint", None, "another run"),
}


@pytest.mark.parametrize(("suffix", "content", "message"), BAD.values(), ids=BAD)
def test_one_bad_file(suffix, content, message, here, there, tmp_path, monkeypatch):
    run = UNFINISHED if suffix == ".checkpoint" else TRACED
    content = content or there.path(BOTH, ".checkpoint").read_bytes()
    there.path(run, suffix).write_bytes(content)
    if suffix == ".npz":  # as in a record from before it had their checksum
        there.path(run).write_text(make_record(run).to_json())
    crafted, exported = tmp_path / "crafted.tar", tmp_path / "records.tar"
    crafted.write_bytes(sealed(tar_of([(member(n), c) for n, c in contents(there).items()])))
    refused(here, crafted, message)
    assert not here.folder.exists()
    with pytest.warns(DamageWarning, match=message):
        counts = archive.export(there, exported)
    whole = {"records": 3 - (run == TRACED), "checkpoints": 1 - (run == UNFINISHED)}
    assert {name: counts[name] for name in whole} == whole
    with pytest.warns(DamageWarning, match=message):
        archive.merge(here, there.folder)
    again = Store(tmp_path / "again")
    assert archive.merge(again, exported) == +Counter(whole)
    assert contents(again) == contents(here)
    monkeypatch.setenv("WRNN_STRICT", "1")
    refused(here, there.folder, message)

"""Archives: records and checkpoints of unfinished runs, carried from machine to machine as one tar.

The first member of an archive is the SHA-256 of all that follows it, so one that was cut short or
changed on the way is recognised. Nothing is written anywhere before everything was read, and no
member is read before its kind and size are known. In a folder, a damaged file is reported and left
out; in an archive it ends the merge, because `export` never puts one there.
"""

import contextlib
import hashlib
import io
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from companion.records import checks
from companion.records.files import (
    DamagedFile,
    Store,
    read_checkpoint,
    report_damage,
    write_atomically,
)
from companion.runs.run import Run
from wrnn.errors import WrnnError

_SEAL = "wrnn-records.sha256"
_SEAL_SIZE = 2 * tarfile.BLOCKSIZE  # its header and its 64 hexadecimal digits, each padded
_MEMBER = re.compile(r"[0-9a-f]{16}\.(json|npz|checkpoint)")


@dataclass(frozen=True)
class _Contents:
    """What a folder of records holds, by run: the bytes of its files."""

    records: dict[Run, dict[str, bytes]]  # ".json" and, of runs with arrays, ".npz"
    checkpoints: dict[Run, tuple[int, bytes]]  # the step it stands at, the file


def export(store: Store, file: Path, *, checkpoints: bool = True, overwrite: bool = False) -> dict:
    """Write all records of a store, and the checkpoints of unfinished runs, into one tar file.

    Returns the numbers of ``records`` and ``checkpoints`` and the ``bytes`` of the archive.
    Raises WrnnError where the file exists or the store holds nothing.
    """
    if file.exists() and not file.is_file():
        raise WrnnError(f"{file} is not a regular file: choose another name")
    if file.exists() and not overwrite:
        raise WrnnError(f"{file} exists: choose another name, or give --overwrite")
    found = _read(store.folder, report_damage)
    unfinished = found.checkpoints if checkpoints else {}
    members = {f"{run.id}.checkpoint": content for run, (_, content) in unfinished.items()}
    for run, files in found.records.items():
        members |= {f"{run.id}{suffix}": content for suffix, content in files.items()}
    if not members:
        raise WrnnError(f"{store.folder} holds no records (ID.json files)")
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(members.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    content = _seal(hashlib.sha256(body.getvalue()).hexdigest()) + body.getvalue()
    write_atomically(file, content)
    return {
        "records": len(found.records),
        "checkpoints": len(unfinished),
        "bytes": len(content),
    }


def merge(store: Store, source: Path) -> Counter:
    """Copy what a store lacks from another folder of records, or from an archive.

    Everything in the source is read before the first file is copied: a damaged archive stops the
    merge with nothing changed, a damaged file of a folder is left out. A run that both have keeps
    this store's record; a damaged one is set aside, and copied. A checkpoint is copied where the
    store has neither the run's record nor a checkpoint at least as far.

    Returns the numbers of ``records`` and ``checkpoints`` copied, of those ``kept`` as they are
    here, and of those left out because the run is in training here (``busy``).
    """
    if source.is_dir():
        found = _read(source, report_damage)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            _unpack(source, Path(scratch))
            try:
                found = _read(Path(scratch), _refuse)
            except WrnnError as error:
                raise WrnnError(f"{source}: {str(error).replace(f'{scratch}/', '')}") from error
    here = _checkpoints(store.folder, report_damage)
    counts: Counter[str] = Counter()
    for run, files in found.records.items():
        if _is_whole(store, run):
            counts["kept"] += 1
        else:
            counts["records" if _put(store, run, files) else "busy"] += 1
    for run, (step, content) in found.checkpoints.items():
        if store.path(run).exists() or (run in here and here[run][0] >= step):
            counts["kept"] += 1
        else:
            counts["checkpoints" if _put(store, run, {".checkpoint": content}) else "busy"] += 1
    return counts


def _is_whole(store: Store, run: Run) -> bool:
    """Whether the store has a run's record and arrays; damaged ones are set aside."""
    try:
        record = store.get(run)
        return record is not None and record.checked_arrays() is not None
    except DamagedFile as error:
        if error.whole:
            report_damage(error)
        else:
            store.set_aside(error)
        return error.whole


def _put(store: Store, run: Run, files: dict[str, bytes]) -> bool:
    """Write files of a run, unless another process is about to."""
    with store.claim(run) as claimed:
        if not claimed or store.path(run).exists():
            return False
        for suffix in sorted(files, reverse=True):  # the arrays before the record
            write_atomically(store.path(run, suffix), files[suffix])
        if store.path(run).exists():
            store.path(run, ".checkpoint").unlink(missing_ok=True)
        return True


def _seal(sha256: str) -> bytes:
    """Return the first member of an archive, which vouches for the rest of it."""
    member = tarfile.TarInfo(_SEAL)
    member.size = len(sha256)
    return member.tobuf(tarfile.USTAR_FORMAT) + sha256.encode().ljust(tarfile.BLOCKSIZE, b"\0")


def _unpack(file: Path, folder: Path) -> None:
    """Check an archive as a whole, then write its members into an empty folder."""
    if not file.exists():
        raise WrnnError(f"there is no {file}: give a folder of records or an archive of them")
    if not file.is_file():
        raise WrnnError(f"{file} is not a regular file: give a folder of records or an archive")
    with file.open("rb") as opened:
        seal = opened.read(_SEAL_SIZE)
        if not _SEAL.encode().startswith(seal[: len(_SEAL)]):
            raise WrnnError(f"{file} is not an archive that 'wrnn records export' made")
        if seal != _seal(hashlib.file_digest(opened, "sha256").hexdigest()):
            raise WrnnError(f"{file} is cut short or damaged: copy or export it again")
        opened.seek(_SEAL_SIZE)
        try:
            with tarfile.open(fileobj=opened, mode="r:") as archive:
                members = archive.getmembers()
                for member in members:
                    # A sparse file may count as regular, and takes no room in the archive.
                    plain = member.type == tarfile.REGTYPE and not member.pax_headers
                    if not (plain and _MEMBER.fullmatch(member.name)):
                        raise WrnnError(
                            f"{file} holds {member.name!r}, which no archive of records does"
                        )
                    checks.bounded(member.size, Path(member.name).suffix)
                for member in members:
                    (folder / member.name).write_bytes(archive.extractfile(member).read())
        except (tarfile.TarError, ValueError) as error:
            if isinstance(error, WrnnError):
                raise
            raise WrnnError(f"{file} is no archive of records: {checks.reason(error)}") from error


def _refuse(error: DamagedFile) -> None:
    raise error


def _read(folder: Path, on_damage: Callable[[DamagedFile], None]) -> _Contents:
    """Read and check every file of a folder of records."""
    # Checkpoints first: one that goes meanwhile has its record by the time those are read.
    checkpoints = _checkpoints(folder, on_damage)
    found, damaged = Store(folder).scan(curves=True)
    for error in damaged:
        on_damage(error)
    records = {}
    for record in found:
        try:
            record.checked_arrays()
        except DamagedFile as error:
            on_damage(error)
            continue
        records[record.run] = {".json": record.path.read_bytes()}
        if record.trace_path is not None:
            records[record.run][".npz"] = record.trace_path.read_bytes()
    if not records and not checkpoints:
        raise WrnnError(f"{folder} holds no records (ID.json files)")
    unfinished = {run: found for run, found in checkpoints.items() if run not in records}
    return _Contents(records, unfinished)


def _checkpoints(
    folder: Path, on_damage: Callable[[DamagedFile], None]
) -> dict[Run, tuple[int, bytes]]:
    """Read and check the checkpoints of a folder; returns step and content of each by its run."""
    found = {}
    for path in sorted(folder.glob("*.checkpoint")):
        with contextlib.suppress(FileNotFoundError):  # its run was finished meanwhile
            try:
                state, run, content = read_checkpoint(path)
            except DamagedFile as error:
                on_damage(error)
                continue
            found[run] = (state["step"], content)
    return found

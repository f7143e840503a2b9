"""What is read is checked first: sums, sizes, types. Whatever fails is one ValueError.

A record's file begins with the checksum of all that follows; records from before 2026-11-24 have
none and stay valid. A checkpoint begins with a line that holds its own. Sizes are bounded as
declared and as they are, so that a crafted file cannot take the memory.
"""

import hashlib
import io
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np

from wrnn.lazy import torch

MOST_BYTES = {".json": 10_000_000, ".npz": 100_000_000, ".checkpoint": 2_000_000_000}
_CHECKPOINT = b"wrnn checkpoint, sha256 "
_SEALED = re.compile(r'\{"checksum": "([^"]*)", ')
_STOPPED = ("budget", "settled", "diverged")


def read_bounded(path: Path, suffix: str) -> bytes:
    """Return the content of a regular file that is no larger than files of its kind may be."""
    # Opened without waiting, because the other end of a pipe may never come.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        return file.read(bounded(status.st_size, suffix) + 1)


def bounded(size: int, suffix: str) -> int:
    """Return the size of a file, or of what it unfolds to, unless it is past all bounds."""
    if size > MOST_BYTES[suffix]:
        raise ValueError(f"{size:,} bytes are more than the {MOST_BYTES[suffix]:,} of any {suffix}")
    return size


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_curve(value: object) -> bool:
    """Whether a value is a list of [step, value]; curves are most of a record, hence at C speed."""
    if not isinstance(value, list) or not set(map(type, value)) <= {list}:
        return False
    if not set(map(len, value)) <= {2}:
        return False
    numbers = list(chain.from_iterable(value))
    return set(map(type, numbers)) <= {int, float} and all(map(math.isfinite, numbers))


def _dict_of(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _or_none(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


_ANY = _dict_of(lambda value: True)
_REQUIRED = {
    "id": _is_text,
    "run": _ANY,
    "metrics": _dict_of(_or_none(_is_number)),
    "curves": _dict_of(_is_curve),
    "parameters": _dict_of(_is_integer),
    "seconds": _is_number,
    "device": _is_text,
    "threads": _is_integer,
    "versions": _dict_of(_is_text),
    "commit": _is_text,
    "data": _ANY,
    "diverged": lambda value: isinstance(value, bool),
}
_OPTIONAL = {
    "steps": _is_integer,
    "stopped": lambda value: value in _STOPPED,
    "replicas": _is_integer,
    "processor_seconds": _or_none(_is_number),
    "arrays": _or_none(_is_text),
}
_SCHEMA = _REQUIRED | _OPTIONAL


def seal_record(text: str) -> str:
    """Return a JSON object's text with the checksum of it as its first member."""
    return f'{{"checksum": "{_sum_of(text)}", {text[1:]}\n'


def is_vouched_for(text: str) -> bool:
    """Whether a record's text has the checksum that it begins with."""
    sealed = _SEALED.match(text)
    return sealed is not None and _sum_of(_unsealed(text, sealed)) == sealed[1]


def _unsealed(text: str, sealed: re.Match) -> str:
    return "{" + text[sealed.end() :].rstrip("\n")


def _sum_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def parse_record(text: str, *, curves: bool = True) -> dict:
    """Return the values of a record's file, its checksum verified and taken away.

    Without ``curves``, which are most of a file, those that a checksum vouches for are left out.
    """
    if sealed := _SEALED.match(text):
        text = _unsealed(text, sealed)
        if _sum_of(text) != sealed[1]:
            raise ValueError(f"its content does not have the checksum {sealed[1]!r}")
        if not curves:
            before, name, rest = text.partition('"curves": {')
            text = before + name + rest[rest.find("}") :]
    values = _decode(text)
    if not isinstance(values, dict):
        raise ValueError("it holds no object")
    for names, what in ((_REQUIRED.keys() - values, "no"), (values.keys() - _SCHEMA, "an unknown")):
        if names:
            raise ValueError(f"it has {what} {min(names)!r}")
    for name, value in values.items():
        if not _SCHEMA[name](value):
            raise ValueError(f"its {name!r} is of a wrong type, or not finite")
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def parse_arrays(content: bytes, sha256: str | None) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file by name, its checksum verified where one is known."""
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError("it does not have the checksum that its record gives")
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        bounded(sum(member.file_size for member in members), ".npz")
        for member in members:
            with archive.open(member) as file:
                data = file.read(member.file_size + 1)  # which also checks its CRC
            arrays[member.filename.removesuffix(".npy")] = _parse_array(data)
    return arrays


def _parse_array(data: bytes) -> np.ndarray:
    """Return the array of an npy file whose header declares no more than there is."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read_header(file)
    if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"its shape {shape} is not that of what it holds")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def seal_checkpoint(state: dict) -> bytes:
    """Return the content of a checkpoint's file. torch.load checks no sum of its own."""
    file = io.BytesIO()
    torch.save(state, file)
    content = file.getvalue()
    return _CHECKPOINT + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def parse_checkpoint(content: bytes) -> dict:
    """Return the state that a checkpoint holds, its checksum verified before anything is read."""
    head, _, body = content.partition(b"\n")
    if head != _CHECKPOINT + hashlib.sha256(body).hexdigest().encode():
        raise ValueError("it does not have the checksum that it begins with")
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        if sum(member.file_size for member in archive.infolist()) > len(body):
            raise ValueError("it unfolds to more than it holds")
    state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not _is_integer(state.get("step")):
        raise ValueError("it holds no state of a run")
    return state


def reason(error: BaseException) -> str:
    """Return the first line of what an error says, or its name where it says nothing."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__

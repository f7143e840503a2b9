"""The index of a large folder of records: what their files hold, curves left out.

It is kept beside the records, and never trusted over them: an entry counts only for a file of the
same size, times and inode, so that any file written since is read again. One that is damaged, or
written by another version, is as good as none.
"""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

FEWEST = 1000  # files from which on a folder has an index
_FORMAT = "wrnn index 1"
SETTLED = 2.0  # seconds after which a file's times tell a later change apart

Stat = list[int]


def stat_of(entry: os.DirEntry) -> Stat:
    """Return what changes when a file does."""
    status = entry.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _path(folder: Path) -> Path:
    return folder / ".index"


def read(folder: Path) -> dict[str, tuple[Stat, dict]]:
    """Return by file name what the index says of a file and of its content, {} without one."""
    with contextlib.suppress(OSError, ValueError):
        head, _, body = _path(folder).read_bytes().partition(b"\n")
        if head == _head(body):
            return json.loads(body)
    return {}


def content(folder: Path, entries: dict[str, tuple[Stat, dict]]) -> tuple[Path, bytes]:
    """Return path and content of the index, without files that have just been written."""
    recent = time.time_ns() - int(SETTLED * 1e9)
    body = json.dumps(
        {name: entry for name, entry in entries.items() if max(entry[0][1:3]) < recent}
    ).encode()
    return _path(folder), _head(body) + b"\n" + body


def _head(body: bytes) -> bytes:
    return f"{_FORMAT} {hashlib.sha256(body).hexdigest()}".encode()

"""Bits, ends and blocks of every kind of file."""

import contextlib
import gzip
import hashlib
import os
import random
import struct
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from torchvision.datasets import MNIST
from torchvision.io import write_png
from trials import RUNS, Trials, ended, same_arrays

from companion.records import archive
from companion.records.files import Store
from companion.training.train import TrainingStopped, train
from wrnn.errors import WrnnError
from wrnn.tasks import data


def flipped(content: bytes, draw: random.Random) -> bytes:
    """Return the content with one bit changed, cut short, or with a block of zeros."""
    damaged, place = bytearray(content), draw.randrange(len(content))
    how = draw.random()
    if how < 0.7:
        damaged[place] ^= 1 << draw.randrange(8)
    elif how < 0.85:
        del damaged[place:]
    else:
        block = slice(place, min(place + 512, len(content)))
        damaged[block] = bytes(block.stop - place)
    return bytes(damaged)


class Files:
    """A whole file of each kind, and for each kind a call that damages and reads it.

    The calls return whether something else came out unnoticed; what they raise is that it was
    noticed.
    """

    def __init__(self, trials: Trials):
        self.draw, self.whole, self.records = trials.draw, trials.undisturbed, trials.expected
        self.folder = trials.folder
        half = Store(trials.folder / "half")
        ended(trials.child(lambda: stop_half(half)))
        self.checkpoint = half.path(RUNS[1], ".checkpoint").read_bytes()
        self.tar = trials.folder / "whole.tar"
        archive.export(self.whole, self.tar, overwrite=True)
        self.images = trials.folder / "images"
        make_images(self.images)
        self.mnist, self.resources = trials.folder / "mnist", []
        make_mnist(self.mnist, self.resources)
        self.kinds: dict[str, Callable[[Store], bool]] = {
            "record": partial(self.record, ".json"),
            "arrays": partial(self.record, ".npz"),
            "checkpoint": self.resumed,
            "archive": self.merged,
            "decoded images": self.decoded,
            "image": self.image,
            "MNIST": self.mnist_file,
        }

    def record(self, hit: str, store: Store) -> bool:
        """A record, or the arrays beside it."""
        run = self.draw.choice(RUNS)
        for suffix in (".json", ".npz"):
            content = self.whole.path(run, suffix).read_bytes()
            content = flipped(content, self.draw) if suffix == hit else content
            store.path(run, suffix).write_bytes(content)
        found = store.all()
        return bool(found) and (
            found[0] != self.records[run] or not same_arrays(found[0], self.records[run])
        )

    def resumed(self, store: Store) -> bool:
        """A checkpoint, which training goes on from or sets aside."""
        store.path(RUNS[1], ".checkpoint").write_bytes(flipped(self.checkpoint, self.draw))
        return train(RUNS[1], store).outcome() != self.records[RUNS[1]].outcome()

    def merged(self, store: Store) -> bool:
        """An archive."""
        damaged = self.folder / "damaged.tar"
        damaged.write_bytes(flipped(self.tar.read_bytes(), self.draw))
        archive.merge(store, damaged)
        return any(store.get(run) != self.records[run] for run in RUNS)

    def decoded(self, store: Store) -> bool:
        """The copy of decoded images, which is made again."""
        cache, whole = self.images / "decoded.pt", read_images(self.images)
        cache.write_bytes(flipped(cache.read_bytes(), self.draw))
        return not torch.equal(read_images(self.images), whole)

    def image(self, store: Store) -> bool:
        """An image that was decoded before: refused, or a warning says that it has changed."""
        path = self.draw.choice(sorted(self.images.rglob("*.png")))
        content, whole = path.read_bytes(), read_images(self.images)
        damaged = flipped(content, self.draw)
        path.write_bytes(damaged)
        try:
            with warnings.catch_warnings(record=True) as said, libpng_silenced():
                warnings.simplefilter("always")
                changed = not torch.equal(read_images(self.images), whole)
            return (changed or damaged != content) and not said
        finally:
            path.write_bytes(content)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read_images(self.images)

    def mnist_file(self, store: Store) -> bool:
        """One of MNIST's files."""
        path = self.mnist / "MNIST" / "raw" / self.draw.choice(self.resources)[0]
        content = path.read_bytes()
        damaged = flipped(content, self.draw)
        path.write_bytes(damaged)
        try:
            with patch.object(MNIST, "resources", self.resources):
                data._mnist.__wrapped__(self.mnist)
            return damaged != content
        finally:
            path.write_bytes(content)


@contextlib.contextmanager
def libpng_silenced() -> Iterator[None]:
    """Keep from the terminal what a library writes to file 2 beside raising its error."""
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def damage_each(trials: Trials, files: Files) -> None:
    """Damage a file of each kind."""
    for kind, call in files.kinds.items():
        name = f"damage to {kind}"
        trials.counts[name].trials += 1
        store = trials.fresh()
        store.folder.mkdir(parents=True)
        wrong = False
        try:
            with warnings.catch_warnings(), contextlib.suppress(WrnnError):
                warnings.simplefilter("ignore")
                wrong = call(store)
        except Exception as error:
            trials.count(name, "loud", repr(error))
        trials.counts[name].faults += 1
        if wrong:
            trials.count(name, "wrong", "taken for good")


def stop_half(store: Store) -> None:
    """Train a run half."""
    steps = iter(range(20))
    with contextlib.suppress(TrainingStopped):
        train(RUNS[1], store, stop=lambda: next(steps, None) is None)


def make_images(folder: Path) -> None:
    """Write an image folder of CIFAR10 with an image for each class and split, and decode it."""
    generator = torch.Generator().manual_seed(0)
    for split in ("train", "test"):
        for label in data.CIFAR10_CLASSES:
            where = folder / split / label
            where.mkdir(parents=True)
            image = torch.randint(256, (3, 32, 32), generator=generator)
            write_png(image.to(torch.uint8), str(where / "0.png"))
    read_images(folder)


def read_images(folder: Path) -> torch.Tensor:
    """Return the images of a folder, (20, 32, 3, 32), decoded or from the copy."""
    return data.image_folder(folder, "images", train=1, test=1).images


def make_mnist(root: Path, resources: list[tuple[str, str]]) -> None:
    """Write MNIST's four files with a few images, and note their names and MD5 sums."""
    draw = random.Random(0)
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count in (("train", 5), ("t10k", 3)):
        for what, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            size = count * 784 if "images" in what else count
            head = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
            content = gzip.compress(head + bytes(draw.randrange(10) for _ in range(size)))
            name = f"{split}-{what}-ubyte.gz"
            (raw / name).write_bytes(content)
            resources.append((name, hashlib.md5(content).hexdigest()))

"""Images from disk: MNIST, CIFAR10 and scikit-learn's digits, loaded once and checked.

Files are looked for under `$WRNN_DATA` (default `data/` in the working directory). Whatever is
there is verified before it is used, and whatever is written there appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wrnn.errors import WrnnError
from wrnn.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
CIFAR10_SOURCES = ("torchvision", "folder")  # see `cifar10`
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, eq=False)
class ImageData:
    """All images of one data set, training images first and the official test images last."""

    name: str  # what every label and record calls it
    images: Tensor  # (N, rows, columns) or (N, rows, 3, columns), uint8
    labels: Tensor  # (N,), int64
    max_value: int  # the grey level that becomes 1.0
    official_test: int = 0  # how many of the last images are the published test set
    _on_device: dict = field(default_factory=dict, repr=False)

    @cached_property
    def sha256(self) -> str:
        """Checksum of the raw arrays: the images' bytes, then the labels as one byte each."""
        digest = hashlib.sha256(self.images.contiguous().numpy().data)
        digest.update(self.labels.to(torch.uint8).numpy().data)
        return digest.hexdigest()

    def on(self, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Images and labels on `device`; the copy is made once and kept."""
        key = str(torch.device(device))
        if key not in self._on_device:
            self._on_device[key] = (self.images.to(device), self.labels.to(device))
        return self._on_device[key]


def data_root() -> Path:
    """The folder that holds data sets: `$WRNN_DATA`, or `data/` where that is not set."""
    return Path(os.environ.get("WRNN_DATA") or "data").expanduser().absolute()


def mnist() -> ImageData:
    """MNIST (LeCun, Cortes and Burges): 60,000 + 10,000 images of 28 x 28.

    Verified `MNIST/raw/*.gz` files are used as they are, with no network; missing ones are
    downloaded by torchvision. Raises WrnnError for a damaged file or a failed download.
    """
    return _mnist(data_root())


def cifar10(source: str = "torchvision") -> ImageData:
    """CIFAR10 (Krizhevsky 2009): 50,000 + 10,000 colour images of 32 x 32.

    `source="torchvision"` reads (or downloads) the original arrays; `source="folder"` decodes the
    image folder `cifar10/{train,test}/<class>/*`, which is named "CIFAR10 (JPEG)" because JPEG
    loses detail. Raises WrnnError for missing or damaged files.
    """
    return {"torchvision": _cifar10, "folder": _cifar10_folder}[source](data_root())


@lru_cache(maxsize=1)
def digits() -> ImageData:
    """scikit-learn's handwritten digits: 1,797 images of 8 × 8, grey levels 0 to 16."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise WrnnError("the digits need scikit-learn: pip install scikit-learn") from error
    bunch = load_digits()
    images = torch.from_numpy(bunch.images).to(torch.uint8)  # (N, 8, 8)
    return ImageData("digits", images, torch.from_numpy(bunch.target).long(), max_value=16)


def _check_files(folder: Path, expected: list[tuple[str, str]]) -> list[str]:
    """Names of the missing files; a present file whose MD5 is wrong raises WrnnError."""
    from torchvision.datasets.utils import check_md5

    missing = []
    for name, md5 in expected:
        path = folder / name
        try:
            if not check_md5(path, md5):
                raise WrnnError(
                    f"{path} is damaged (its MD5 should be {md5}): delete or replace it"
                )
        except FileNotFoundError:
            missing.append(name)
        except OSError as error:
            raise WrnnError(f"{path} cannot be read: {error.strerror}") from error
    return missing


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A private folder beside `folder` or in it, from which finished files are moved in one step.

    Runs that start together or are killed cannot spoil each other's data in it, and where nothing
    is finished nothing is left.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        scratch = tempfile.TemporaryDirectory(prefix=".partial-", dir=there)
    except OSError as error:
        raise WrnnError(f"cannot write to {folder}: {error.strerror}") from error
    with scratch as name:
        yield Path(name)


def _download(dataset: type, into: str | Path, missing: Path, remedy: str) -> None:
    """Let torchvision fetch, verify and unpack `dataset` in the folder `into`."""
    try:
        dataset(into, download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise WrnnError(
            f"there is no {missing}, and it could not be downloaded ({reason}): {remedy}"
        ) from error


@lru_cache(maxsize=2)
def _mnist(root: Path) -> ImageData:
    from torchvision.datasets import MNIST

    raw = root / "MNIST" / "raw"
    missing = _check_files(raw, MNIST.resources)
    if missing:
        with _scratch(raw) as scratch:
            remedy = "point WRNN_DATA at a folder with the four .gz files of MNIST in MNIST/raw"
            _download(MNIST, scratch, raw / missing[0], remedy)
            raw.mkdir(parents=True, exist_ok=True)
            for name in missing:
                os.replace(scratch / "MNIST" / "raw" / name, raw / name)
    train, train_labels, test, test_labels = (_read_idx(raw / name) for name, _ in MNIST.resources)
    labels = torch.cat([train_labels, test_labels]).long()
    return ImageData("MNIST", torch.cat([train, test]), labels, 255, official_test=len(test))


def _read_idx(path: Path) -> Tensor:
    """The array of bytes in a file of MNIST: its axes, their sizes, then the values, compressed."""
    content = gzip.decompress(path.read_bytes())
    axes = content[3]
    shape = np.frombuffer(content, ">i4", axes, 4).tolist()
    return torch.tensor(np.frombuffer(content, np.uint8, offset=4 + 4 * axes)).view(shape)


@lru_cache(maxsize=2)
def _cifar10(root: Path) -> ImageData:
    from torchvision.datasets import CIFAR10

    folder, archive = root / CIFAR10.base_folder, root / CIFAR10.filename
    names = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    missing = _check_files(folder, [*CIFAR10.train_list, *CIFAR10.test_list, names])
    if missing and folder.exists():
        raise WrnnError(f"there is no {folder / missing[0]}: delete {folder} to have it made again")
    if missing:
        have_archive = not _check_files(root, [(CIFAR10.filename, CIFAR10.tgz_md5)])
        with _scratch(root) as scratch:
            if have_archive:
                shutil.copyfile(archive, scratch / archive.name)
            remedy = (
                f"point WRNN_DATA at a folder with {archive.name}, or use an image folder: "
                "source='folder', --cifar10 folder"
            )
            _download(CIFAR10, scratch, folder, remedy)
            root.mkdir(parents=True, exist_ok=True)
            # The target exists if a run that started together with this one was faster.
            with contextlib.suppress(OSError):
                os.replace(scratch / folder.name, folder)
    train, test = CIFAR10(root, train=True), CIFAR10(root, train=False)
    images = torch.cat([torch.from_numpy(train.data), torch.from_numpy(test.data)])
    labels = torch.tensor(train.targets + test.targets)
    return ImageData("CIFAR10", _by_row(images), labels, 255, official_test=len(test.data))


def _by_row(images: Tensor) -> Tensor:
    """(N, rows, columns, 3) to (N, rows, 3, columns): each row red, then green, then blue."""
    return images.transpose(2, 3).contiguous()


@lru_cache(maxsize=2)
def _cifar10_folder(root: Path) -> ImageData:
    return image_folder(root / "cifar10", "CIFAR10 (JPEG)", train=5000, test=1000)


def image_folder(folder: Path, name: str, *, train: int, test: int) -> ImageData:
    """CIFAR10 as an image folder: `folder/{train,test}/<class>/*`, 32 x 32 colour images.

    `train` and `test` are how many images each class must hold. The images are decoded once and
    kept in `folder/decoded.pt` with checksums of the files and of the result. It is rebuilt when it
    does not match them; a file of the same name whose content has changed is warned of.
    Raises WrnnError for a missing folder, a wrong count and an unreadable image.
    """
    paths = []
    for split, count in (("train", train), ("test", test)):
        for label in CIFAR10_CLASSES:
            where = folder / split / label
            if not where.is_dir():
                raise WrnnError(f"no folder {where}: unpack an image folder of CIFAR10 to {folder}")
            files = sorted(path for path in where.iterdir() if path.suffix in IMAGE_SUFFIXES)
            if len(files) != count:
                raise WrnnError(f"{where} holds {len(files)} images, {count} are expected")
            paths += files
    images = _decode(paths, folder / "decoded.pt")
    labels = torch.arange(10).repeat_interleave(train), torch.arange(10).repeat_interleave(test)
    return ImageData(name, images, torch.cat(labels), 255, official_test=10 * test)


def _decode(paths: list[Path], cache: Path) -> Tensor:
    """Images (N, rows, 3, columns) of image files, from the cache where it matches the files."""
    from torchvision.io import ImageReadMode, read_image

    names = [str(path.relative_to(cache.parent)) for path in paths]
    try:
        sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    except OSError as error:
        raise WrnnError(f"{error.filename} cannot be read: {error.strerror}") from error
    kept = _read_cache(cache, len(paths))
    if kept is not None:
        before = dict(zip(kept["names"], kept["sums"], strict=True))
        changed = [n for n, s in zip(names, sums, strict=True) if before.get(n, s) != s]
        if (kept["names"], kept["sums"]) == (names, sums):
            return kept["images"]
        if changed:
            warnings.warn(
                f"{len(changed)} images in {cache.parent} have changed since they were first read, "
                f"such as {changed[0]}: unless that was meant, unpack them again",
                stacklevel=2,
            )
    images = torch.empty(len(paths), 32, 3, 32, dtype=torch.uint8)  # (N, rows, 3, columns)
    for index, path in enumerate(paths):
        try:
            image = read_image(str(path), ImageReadMode.RGB)  # (3, rows, columns)
        except RuntimeError as error:
            raise WrnnError(f"{path} is damaged or not an image: unpack it again") from error
        if image.shape != (3, 32, 32):
            raise WrnnError(f"{path} is {image.shape[1]} x {image.shape[2]} pixels, not 32 x 32")
        images[index] = image.transpose(0, 1)
    kept = {"names": names, "sums": sums, "images": images}
    # Where nothing can be written, the images are decoded at every start.
    with contextlib.suppress(OSError, RuntimeError, WrnnError), _scratch(cache.parent) as scratch:
        torch.save({**kept, "sha256": _sum_of(kept)}, scratch / cache.name)
        os.replace(scratch / cache.name, cache)
    return images


def _read_cache(cache: Path, count: int) -> dict | None:
    """What `_decode` kept, or None where it is not there or not as it was written."""
    with contextlib.suppress(Exception):  # torch.load raises what it likes
        kept = torch.load(cache, weights_only=True)
        images = kept["images"]
        whole = images.shape == (count, 32, 3, 32) and images.dtype == torch.uint8
        if whole and kept.pop("sha256") == _sum_of(kept):
            return kept
    return None


def _sum_of(kept: dict) -> str:
    digest = hashlib.sha256(repr((kept["names"], kept["sums"])).encode())
    digest.update(kept["images"].contiguous().numpy())
    return digest.hexdigest()

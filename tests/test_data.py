"""Reading data sets: what is verified, what is refused, what is left behind."""

import gzip
import hashlib
import pickle
import random
import struct
import tarfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, MNIST, utils
from torchvision.io import write_png

from wrnn.errors import WrnnError
from wrnn.tasks import NoisySequentialCIFAR10, SequentialMNIST, data

MNIST_FILES = [
    f"{a}-{b}-ubyte.gz" for a in ("train", "t10k") for b in ("images-idx3", "labels-idx1")
]
BATCHES = CIFAR10.base_folder


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def everything_in(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


def refused(call) -> str:
    """The message of the WrnnError that `call` must raise, checked to be one line."""
    with pytest.raises(WrnnError) as caught:
        call()
    message = str(caught.value)
    assert message and "\n" not in message
    return message


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data folder, and no network."""
    monkeypatch.setenv("WRNN_DATA", str(tmp_path / "data"))
    let_torchvision_fetch(monkeypatch)
    return tmp_path / "data"


def let_torchvision_fetch(monkeypatch, source=None, interrupted_at=None):
    """Replace its download by a copy from a folder; what is there and whole is not fetched."""

    def fetch(url, root, filename=None, md5=None, max_redirect_hops=3):
        target = Path(root) / filename
        if utils.check_integrity(target, md5):
            return
        if source is None:
            raise URLError("no network in tests")
        content = (source / filename).read_bytes()
        target.write_bytes(content[: len(content) // 2 if filename == interrupted_at else None])
        if filename == interrupted_at:
            raise URLError("connection lost")

    monkeypatch.setattr(utils, "download_url", fetch)


@pytest.fixture
def tiny_mnist(root, monkeypatch):
    """Five and three images in the format of MNIST, which torchvision accepts, and their arrays."""
    folder = root.parent / "source"
    folder.mkdir()
    draw, arrays = np.random.default_rng(0), []
    for name in MNIST_FILES:
        count = 5 if name.startswith("train") else 3
        array = draw.integers(0, 10, (count, 28, 28) if "images" in name else count, np.uint8)
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / name).write_bytes(gzip.compress(header + array.tobytes()))
        arrays.append(array)
    monkeypatch.setattr(MNIST, "resources", [(name, md5(folder / name)) for name in MNIST_FILES])
    return folder, arrays


def put(source: Path, raw: Path, names=MNIST_FILES) -> None:
    raw.mkdir(parents=True)
    for name in names:
        (raw / name).write_bytes((source / name).read_bytes())


def check_tiny_mnist(arrays: list[np.ndarray]) -> None:
    images = data.mnist()
    assert images.images.tolist() == np.concatenate(arrays[0::2]).tolist()
    assert images.labels.tolist() == np.concatenate(arrays[1::2]).tolist()
    assert (images.name, images.official_test, images.max_value) == ("MNIST", 3, 255)
    raw = b"".join(array.tobytes() for array in (*arrays[0::2], *arrays[1::2]))
    assert images.sha256 == hashlib.sha256(raw).hexdigest()


def test_mnist_archives_are_used_in_place_without_network(root, tiny_mnist):
    source, arrays = tiny_mnist
    put(source, root / "MNIST" / "raw")
    before = everything_in(root)
    check_tiny_mnist(arrays)
    assert everything_in(root) == before
    assert data.mnist() is data.mnist()


def test_missing_mnist_without_network_is_one_line_and_leaves_nothing(root, tiny_mnist):
    task, generator = SequentialMNIST(), torch.Generator().manual_seed(0)
    for call in (
        lambda: task.batch(4, generator=generator),
        lambda: task.evaluation_batches("test"),
        task.fingerprint,
    ):
        message = refused(call)
        assert str(root / "MNIST" / "raw" / MNIST_FILES[0]) in message and "WRNN_DATA" in message
    assert not root.exists()


def test_an_interrupted_download_leaves_nothing_and_the_next_is_whole(
    root, tiny_mnist, monkeypatch
):
    source, arrays = tiny_mnist
    put(source, root / "MNIST" / "raw", MNIST_FILES[1:2])
    before = everything_in(root)
    let_torchvision_fetch(monkeypatch, source, interrupted_at=MNIST_FILES[2])
    assert "could not be downloaded" in refused(data.mnist)
    assert everything_in(root) == before
    let_torchvision_fetch(monkeypatch, source)
    check_tiny_mnist(arrays)
    assert everything_in(root / "MNIST" / "raw") == everything_in(source)


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[: len(c) // 2], lambda c: c[:-9] + bytes([c[-9] ^ 1]) + c[-8:], lambda c: b""],
    ids=["truncated", "flipped", "empty"],
)
def test_a_damaged_mnist_file_is_named_and_kept(root, tiny_mnist, damage):
    put(tiny_mnist[0], root / "MNIST" / "raw")
    for name in MNIST_FILES:
        path = root / "MNIST" / "raw" / name
        content = path.read_bytes()
        path.write_bytes(damage(content))
        before = everything_in(root)
        assert str(path) in refused(data.mnist)
        assert everything_in(root) == before
        path.write_bytes(content)


def test_a_data_root_that_cannot_be_a_folder_is_one_line(root, tiny_mnist):
    root.write_text("a file where the folder should be")
    assert str(root) in refused(data.mnist)
    assert "cannot" in refused(data.cifar10)
    assert str(root) in refused(lambda: data.cifar10("folder"))


def test_the_data_root_is_data_unless_the_variable_says_otherwise(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WRNN_DATA", raising=False)
    assert data.data_root() == tmp_path / "data"
    monkeypatch.setenv("WRNN_DATA", "elsewhere")
    assert data.data_root() == tmp_path / "elsewhere"


@pytest.fixture
def tiny_cifar10(root, monkeypatch):
    """A CIFAR10 archive of three + two images, which torchvision accepts, and their planes."""
    source = root.parent / "source"
    folder = source / BATCHES
    folder.mkdir(parents=True)
    draw, planes = np.random.default_rng(0), []
    for name, labels, files in (
        ("data_batch_1", [7, 0, 9], "train_list"),
        ("test_batch", [1, 1], "test_list"),
    ):
        planes.append(draw.integers(0, 256, (len(labels), 3072), np.uint8))
        (folder / name).write_bytes(pickle.dumps({"data": planes[-1], "labels": labels}))
        monkeypatch.setattr(CIFAR10, files, [[name, md5(folder / name)]])
    meta = folder / "batches.meta"
    meta.write_bytes(pickle.dumps({"label_names": list(data.CIFAR10_CLASSES)}))
    with tarfile.open(source / CIFAR10.filename, "w:gz") as archive:
        archive.add(folder, arcname=BATCHES)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(meta)})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(source / CIFAR10.filename))
    return source, np.concatenate(planes).reshape(5, 3, 32, 32)


def check_tiny_cifar10(planes: np.ndarray) -> None:
    data._cifar10.cache_clear()
    images = data.cifar10()
    assert images.images.tolist() == planes.transpose(0, 2, 1, 3).tolist()  # rows before colours
    assert images.labels.tolist() == [7, 0, 9, 1, 1]
    assert (images.name, images.official_test) == ("CIFAR10", 2)


def test_cifar10_archive_is_unpacked_whole_then_used_alone(root, tiny_cifar10):
    source, planes = tiny_cifar10
    root.mkdir()
    archive = root / CIFAR10.filename
    archive.write_bytes((source / archive.name).read_bytes())
    check_tiny_cifar10(planes)
    assert everything_in(root) == everything_in(source)
    archive.unlink()
    check_tiny_cifar10(planes)


def test_missing_cifar10_is_downloaded(root, tiny_cifar10, monkeypatch):
    source, planes = tiny_cifar10
    let_torchvision_fetch(monkeypatch, source)
    check_tiny_cifar10(planes)
    assert everything_in(root / BATCHES) == everything_in(source / BATCHES)
    assert [path.name for path in root.iterdir()] == [BATCHES]


def test_missing_or_damaged_cifar10_is_one_line(root, tiny_cifar10):
    source, planes = tiny_cifar10
    message = refused(data.cifar10)
    assert str(root / BATCHES) in message and "source='folder'" in message
    assert not root.exists()
    archive = root / CIFAR10.filename
    root.mkdir()
    archive.write_bytes((source / archive.name).read_bytes()[:-20])
    assert str(archive) in refused(data.cifar10)
    archive.write_bytes((source / archive.name).read_bytes())
    check_tiny_cifar10(planes)
    batch = root / BATCHES / "test_batch"
    batch.write_bytes(batch.read_bytes()[:-1])
    data._cifar10.cache_clear()
    assert str(batch) in refused(data.cifar10)
    batch.unlink()
    assert str(batch) in refused(data.cifar10)


@pytest.fixture
def image_folder(tmp_path):
    """Two + one PNG images (lossless) per class, and their pixels in the order of reading."""
    folder, generator = tmp_path / "cifar10", torch.Generator().manual_seed(0)
    pixels = []
    for split, count in (("train", 2), ("test", 1)):
        for label in data.CIFAR10_CLASSES:
            where = folder / split / label
            where.mkdir(parents=True)
            for number in range(count):
                image = torch.randint(256, (3, 32, 32), generator=generator).to(torch.uint8)
                write_png(image, str(where / f"{number:04}.png"))
                pixels.append(image.transpose(0, 1))
    return folder, torch.stack(pixels)


def read(folder: Path) -> data.ImageData:
    return data.image_folder(folder, "CIFAR10 (JPEG)", train=2, test=1)


def test_image_folder_is_read_once_and_again_where_an_image_changed(image_folder, monkeypatch):
    folder, pixels = image_folder
    images = read(folder)
    assert torch.equal(images.images, pixels)
    assert images.labels.tolist() == [*sorted(2 * list(range(10))), *range(10)]
    assert (images.name, images.official_test) == ("CIFAR10 (JPEG)", 10)
    assert sorted(path.name for path in folder.iterdir()) == ["decoded.pt", "test", "train"]
    with monkeypatch.context() as patch:
        patch.setattr("torchvision.io.read_image", None)  # nothing is decoded again
        again = read(folder)
    assert torch.equal(again.images, pixels) and again.sha256 == images.sha256
    path = folder / "test/truck/0000.png"
    content = path.read_bytes()
    path.write_bytes(content[:-30] + bytes([content[-30] ^ 1]) + content[-29:])  # of the same size
    with pytest.warns(UserWarning, match="such as test/truck/0000.png: unless"):
        try:
            read(folder)
        except WrnnError as error:
            assert str(path) in str(error)
    write_png(torch.zeros(3, 32, 32, dtype=torch.uint8), str(path))
    with pytest.warns(UserWarning, match=r"1 images .* such as test/truck/0000.png: unless"):
        changed = read(folder)
    assert (changed.images[-1] == 0).all() and torch.equal(changed.images[:-1], pixels[:-1])


def test_no_damage_to_the_decoded_copy_changes_an_image(image_folder):
    folder, pixels = image_folder
    read(folder)
    copy = folder / "decoded.pt"
    content, draw = copy.read_bytes(), random.Random(0)
    flipped = []
    for _ in range(20):
        place = draw.randrange(len(content))
        bit = bytes([content[place] ^ 1 << draw.randrange(8)])
        flipped.append(content[:place] + bit + content[place + 1 :])
    for damaged in (*flipped, *(content[:length] for length in (0, 1000, len(content) - 1))):
        copy.write_bytes(damaged)
        assert torch.equal(read(folder).images, pixels)
    kept = torch.load(copy, weights_only=True)
    for images in (kept["images"].float(), kept["images"][:-1], kept["images"] + 1):
        torch.save({**kept, "images": images}, copy)
        assert torch.equal(read(folder).images, pixels)


def test_a_wrong_image_folder_is_one_line_and_leaves_nothing(image_folder, root):
    folder, _ = image_folder
    path, ship = folder / "train/frog/0001.png", folder / "test/ship/0000.png"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert str(path) in refused(lambda: read(folder))
    write_png(torch.zeros(3, 32, 31, dtype=torch.uint8), str(path))
    assert f"{path} is 32 x 31 pixels" in refused(lambda: read(folder))
    path.unlink()
    assert "frog holds 1 images, 2 are expected" in refused(lambda: read(folder))
    ship.unlink()
    ship.parent.rmdir()
    path.write_bytes(content)
    assert str(ship.parent) in refused(lambda: read(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["test", "train"]
    missing = refused(NoisySequentialCIFAR10(source="folder").fingerprint)
    assert str(root / "cifar10" / "train" / "airplane") in missing


MNIST_RAW = data.data_root() / "MNIST" / "raw"


@pytest.mark.skipif(not MNIST_RAW.is_dir(), reason=f"no {MNIST_RAW}: point WRNN_DATA at MNIST")
def test_real_mnist():
    task, images = SequentialMNIST(), data.mnist()
    fingerprint = task.fingerprint()
    assert [fingerprint[split] for split in task.splits] == [57000, 3000, 10000]
    x, y = next(task.evaluation_batches("test", 10))
    assert x.shape == (784, 10, 1) and y.tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert torch.equal(x[:, 0, 0] * 255, images.images[60000].flatten().float())

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

from wrnn.errors import WrnnError
from wrnn.tasks import NoisySequentialCIFAR10, SequentialMNIST, data

MNIST_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def everything_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


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
    folder = tmp_path / "data"
    monkeypatch.setenv("WRNN_DATA", str(folder))

    def no_network(*args, **kwargs):
        raise URLError("no network in tests")

    for module in ("mnist", "cifar"):
        monkeypatch.setattr(
            f"torchvision.datasets.{module}.download_and_extract_archive", no_network
        )
    return folder


def idx(array: np.ndarray) -> bytes:
    """The array in the format of the MNIST files."""
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def tiny_mnist(tmp_path, monkeypatch):
    """Four files in the format of MNIST, five and three images, which torchvision accepts."""
    from torchvision.datasets import MNIST

    folder = tmp_path / "source"
    folder.mkdir()
    random = np.random.default_rng(0)
    arrays = {}
    for name in MNIST_FILES:
        count = 5 if name.startswith("train") else 3
        arrays[name] = random.integers(0, 10, (count, 28, 28) if "images" in name else (count,))
        (folder / name).write_bytes(gzip.compress(idx(arrays[name])))
    resources = [(name, md5(folder / name)) for name in MNIST_FILES]
    monkeypatch.setattr(MNIST, "resources", resources)
    return folder, list(arrays.values())


def put(source: Path, raw: Path, names=MNIST_FILES) -> None:
    raw.mkdir(parents=True, exist_ok=True)
    for name in names:
        (raw / name).write_bytes((source / name).read_bytes())


@pytest.fixture
def offline_archives(monkeypatch):
    """Let torchvision unpack: archives that are there, or those "downloaded" from `source`."""
    from torchvision.datasets import utils

    def allow(source=None, interrupted_at=None):
        def fetch(url, root, filename=None, md5=None, max_redirect_hops=3):
            target = Path(root) / filename
            if utils.check_integrity(target, md5):
                return
            if source is None:
                raise URLError("no network in tests")
            content = (source / filename).read_bytes()
            if filename == interrupted_at:
                target.write_bytes(content[: len(content) // 2])
                raise URLError("connection lost")
            target.write_bytes(content)

        monkeypatch.setattr(utils, "download_url", fetch)
        for module in ("mnist", "cifar"):
            monkeypatch.setattr(
                f"torchvision.datasets.{module}.download_and_extract_archive",
                utils.download_and_extract_archive,
            )

    return allow


def check_tiny(images: data.ImageData, arrays: list[np.ndarray]) -> None:
    assert images.images.tolist() == np.concatenate(arrays[0::2]).tolist()
    assert images.labels.tolist() == np.concatenate(arrays[1::2]).tolist()
    assert (images.name, images.official_test, images.max_value) == ("MNIST", 3, 255)


def test_mnist_archives_are_used_in_place_without_network(root, tiny_mnist, offline_archives):
    source, arrays = tiny_mnist
    put(source, root / "MNIST" / "raw")
    before = everything_in(root)
    offline_archives()
    check_tiny(data.mnist(), arrays)
    assert everything_in(root) == before
    assert data.mnist() is data.mnist()


def test_missing_mnist_is_downloaded_whole(root, tiny_mnist, offline_archives):
    source, arrays = tiny_mnist
    put(source, root / "MNIST" / "raw", MNIST_FILES[:1])
    offline_archives(source)
    check_tiny(data.mnist(), arrays)
    assert everything_in(root / "MNIST" / "raw") == everything_in(source)


def test_missing_mnist_without_network_is_one_line_and_leaves_nothing(root, tiny_mnist):
    message = refused(data.mnist)
    assert str(root / "MNIST" / "raw" / MNIST_FILES[0]) in message and "WRNN_DATA" in message
    assert not root.exists()


def test_an_interrupted_download_leaves_nothing(root, tiny_mnist, offline_archives):
    source, arrays = tiny_mnist
    put(source, root / "MNIST" / "raw", MNIST_FILES[1:2])
    before = everything_in(root)
    offline_archives(source, interrupted_at=MNIST_FILES[2])
    message = refused(data.mnist)
    assert "could not be downloaded" in message
    assert everything_in(root) == before
    offline_archives(source)  # the next attempt starts from what was there
    check_tiny(data.mnist(), arrays)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
@pytest.mark.parametrize("name", MNIST_FILES)
def test_a_damaged_mnist_file_is_named_and_kept(root, tiny_mnist, name, damage):
    source, _ = tiny_mnist
    put(source, root / "MNIST" / "raw")
    path = root / "MNIST" / "raw" / name
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
            "empty": b"",
        }[damage]
    )
    before = everything_in(root)
    assert str(path) in refused(data.mnist)
    assert everything_in(root) == before


def test_a_task_reports_missing_data(root, tiny_mnist):
    task = SequentialMNIST()
    generator = torch.Generator().manual_seed(0)
    for call in (
        lambda: task.batch(4, generator=generator),
        lambda: task.evaluation_batches("test"),
        task.fingerprint,
    ):
        assert MNIST_FILES[0] in refused(call)


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


# CIFAR10, the original arrays


@pytest.fixture
def tiny_cifar10(tmp_path, monkeypatch):
    """A CIFAR10 archive of three + two images, which torchvision accepts."""
    from torchvision.datasets import CIFAR10

    source = tmp_path / "source"
    folder = source / CIFAR10.base_folder
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    arrays = {"data_batch_1": (3, [7, 0, 9]), "test_batch": (2, [1, 1])}
    for name, (count, labels) in arrays.items():
        arrays[name] = random.integers(0, 256, (count, 3072)).astype(np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": arrays[name], "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(data.CIFAR10_CLASSES)}))
    with tarfile.open(source / CIFAR10.filename, "w:gz") as archive:
        archive.add(folder, arcname=CIFAR10.base_folder)
    for attribute, name in (("train_list", "data_batch_1"), ("test_list", "test_batch")):
        monkeypatch.setattr(CIFAR10, attribute, [[name, md5(folder / name)]])
    meta = {**CIFAR10.meta, "md5": md5(folder / "batches.meta")}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(source / CIFAR10.filename))
    return source, np.concatenate(list(arrays.values())).reshape(5, 3, 32, 32)


def check_tiny_cifar10(images: data.ImageData, planes: np.ndarray) -> None:
    assert images.images.tolist() == planes.transpose(0, 2, 1, 3).tolist()  # rows before colours
    assert images.labels.tolist() == [7, 0, 9, 1, 1]
    assert (images.name, images.official_test) == ("CIFAR10", 2)


def test_cifar10_archive_is_unpacked_whole_then_used_alone(root, tiny_cifar10, offline_archives):
    source, planes = tiny_cifar10
    root.mkdir()
    archive = root / "cifar-10-python.tar.gz"
    archive.write_bytes((source / archive.name).read_bytes())
    offline_archives()
    check_tiny_cifar10(data.cifar10(), planes)
    assert everything_in(root) == everything_in(source)
    archive.unlink()
    data._cifar10.cache_clear()
    check_tiny_cifar10(data.cifar10(), planes)


def test_missing_cifar10_is_downloaded(root, tiny_cifar10, offline_archives):
    source, planes = tiny_cifar10
    offline_archives(source)
    check_tiny_cifar10(data.cifar10(), planes)
    folder = "cifar-10-batches-py"
    assert everything_in(root / folder) == everything_in(source / folder)
    assert [path.name for path in root.iterdir()] == [folder]


def test_missing_or_damaged_cifar10_is_one_line(root, tiny_cifar10, offline_archives):
    source, _ = tiny_cifar10
    message = refused(data.cifar10)
    assert str(root / "cifar-10-batches-py") in message and "source='folder'" in message
    assert not root.exists()
    archive = root / "cifar-10-python.tar.gz"
    root.mkdir()
    archive.write_bytes((source / archive.name).read_bytes()[:-20])
    assert str(archive) in refused(data.cifar10)
    archive.write_bytes((source / archive.name).read_bytes())
    offline_archives()
    data.cifar10()
    data._cifar10.cache_clear()
    batch = root / "cifar-10-batches-py" / "test_batch"
    batch.write_bytes(batch.read_bytes()[:-1])
    assert str(batch) in refused(data.cifar10)
    batch.unlink()
    assert str(batch) in refused(data.cifar10)


# CIFAR10 as an image folder


@pytest.fixture
def image_folder(tmp_path):
    """Two + one PNG images (lossless) per class, and their pixels in the order of reading."""
    from torchvision.io import write_png

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


def test_image_folder_is_read_once_and_kept(image_folder, monkeypatch):
    folder, pixels = image_folder
    images = read(folder)
    assert torch.equal(images.images, pixels)
    assert images.labels.tolist() == [*sorted(2 * list(range(10))), *range(10)]
    assert (images.name, images.official_test) == ("CIFAR10 (JPEG)", 10)
    assert sorted(path.name for path in folder.iterdir()) == ["decoded.pt", "test", "train"]

    def no_decoding(*args):
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr("torchvision.io.read_image", no_decoding)
        again = read(folder)
    assert torch.equal(again.images, pixels) and again.sha256 == images.sha256


def test_image_folder_is_read_again_when_an_image_changed_and_says_so(image_folder):
    from torchvision.io import write_png

    folder, pixels = image_folder
    read(folder)
    write_png(torch.zeros(3, 32, 32, dtype=torch.uint8), str(folder / "test/truck/0000.png"))
    with pytest.warns(UserWarning, match=r"1 images .* such as test/truck/0000.png: unless"):
        changed = read(folder)
    assert (changed.images[-1] == 0).all() and torch.equal(changed.images[:-1], pixels[:-1])


def test_damage_of_the_same_size_to_an_image_is_noticed(image_folder):
    folder, _ = image_folder
    read(folder)
    path = folder / "train" / "frog" / "0001.png"
    content = bytearray(path.read_bytes())
    content[-30] ^= 1  # in the compressed pixels or their sum
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="train/frog/0001.png"):
        try:
            read(folder)
        except WrnnError as error:
            assert str(path) in str(error)


def test_no_damage_to_the_decoded_copy_changes_an_image(image_folder):
    folder, pixels = image_folder
    read(folder)
    copy = folder / "decoded.pt"
    content = copy.read_bytes()
    draw = random.Random(0)
    for _ in range(60):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        copy.write_bytes(damaged)
        assert torch.equal(read(folder).images, pixels)
    for length in (0, 1000, len(content) - 1):
        copy.write_bytes(content[:length])
        assert torch.equal(read(folder).images, pixels)
    kept = torch.load(copy, weights_only=True)
    for images in (kept["images"].float(), kept["images"][:-1], kept["images"] + 1):
        torch.save({**kept, "images": images}, copy)
        assert torch.equal(read(folder).images, pixels)


def test_a_wrong_image_folder_is_one_line_and_leaves_nothing(image_folder):
    from torchvision.io import write_png

    folder, _ = image_folder
    path = folder / "train" / "frog" / "0001.png"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert str(path) in refused(lambda: read(folder))
    write_png(torch.zeros(3, 32, 31, dtype=torch.uint8), str(path))
    assert f"{path} is 32 x 31 pixels" in refused(lambda: read(folder))
    path.unlink()
    assert "frog holds 1 images, 2 are expected" in refused(lambda: read(folder))
    (folder / "test" / "ship" / "0000.png").unlink()
    (folder / "test" / "ship").rmdir()
    path.write_bytes(content)
    assert str(folder / "test" / "ship") in refused(lambda: read(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["test", "train"]


def test_the_task_reports_a_missing_image_folder(root):
    message = refused(NoisySequentialCIFAR10(source="folder").fingerprint)
    assert str(root / "cifar10" / "train" / "airplane") in message


# The real thing, where it is there

MNIST_RAW = data.data_root() / "MNIST" / "raw"


@pytest.mark.skipif(
    not all((MNIST_RAW / name).is_file() for name in MNIST_FILES),
    reason=f"the MNIST files are not in {MNIST_RAW}: point WRNN_DATA at them",
)
def test_real_mnist():
    task = SequentialMNIST()
    fingerprint = task.fingerprint()
    expected = {"data": "MNIST", "train": 57000, "validation": 3000, "test": 10000}
    assert {key: fingerprint[key] for key in expected} == expected
    images = data.mnist()
    assert torch.bincount(images.labels[:60000]).tolist() == [
        *(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
    ]
    x, y = next(task.evaluation_batches("test", 10))
    assert x.shape == (784, 10, 1) and y.tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert torch.equal(x[:, 0, 0] * 255, images.images[60000].flatten().float())

"""The command line, called; tests marked ``gpu`` or ``slow`` run only where they are asked for."""

from typing import NamedTuple

import pytest

from companion.cli import main
from companion.records.files import Store


class Called(NamedTuple):
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call(tmp_path, monkeypatch, capfd):
    """Run ``wrnn ARGUMENTS`` in tmp_path and return what came of it."""

    def run(*arguments) -> Called:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["wrnn", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return Called(caught.value.code, *capfd.readouterr())

    return run


@pytest.fixture
def store(tmp_path):
    """Return an empty folder of records."""
    return Store(tmp_path / "records")


def pytest_addoption(parser):
    """Add ``--gpu`` and ``--slow``."""
    parser.addoption(
        "--gpu", action="store_true", help="also run the tests that need a CUDA device"
    )
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config, items):
    """Skip what was not asked for; ``--gpu`` asks for both, since the slow ones are about GPUs."""
    gpu = config.getoption("--gpu")
    for item in items:
        if item.get_closest_marker("gpu") and not gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device: run pytest --gpu"))
        if item.get_closest_marker("slow") and not (gpu or config.getoption("--slow")):
            item.add_marker(pytest.mark.skip(reason="takes minutes: run pytest --slow"))

"""Options of the test run: tests marked ``gpu`` run only with ``--gpu``."""

import pytest


def pytest_addoption(parser):
    """Add ``--gpu``."""
    parser.addoption(
        "--gpu", action="store_true", help="also run the tests that need a CUDA device"
    )


def pytest_collection_modifyitems(config, items):
    """Skip the GPU tests unless they were asked for."""
    if config.getoption("--gpu"):
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device: run pytest --gpu"))

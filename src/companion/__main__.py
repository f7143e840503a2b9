"""``python -m companion``: the command line, also where the package is not installed."""

import re
import sys
from importlib.metadata import PackageNotFoundError, version

# As in pyproject.toml, which nobody has asked for where nothing was installed.
NEEDS = {"filelock": "4.2", "numpy": "2.0", "torch": "2.11", "torchvision": "0.26", "typer": "0.29"}


def parts(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(map(int, re.findall(r"\d+", text)[:2]))


def check_versions() -> None:
    """End where Python is too old or a package is missing; say which packages are old."""
    if sys.version_info < (3, 11):  # noqa: UP036 - nothing was installed that would refuse it
        sys.exit(f"wrnn: Python 3.11 or newer is needed; this is {sys.version.split()[0]}")
    for name, least in NEEDS.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            sys.exit(f"wrnn: {name} is missing: {sys.executable} -m pip install .")
        if parts(found) < parts(least):
            print(f"wrnn: {name} {found} is older than the {least} asked for", file=sys.stderr)


if __name__ == "__main__":
    check_versions()
    from companion.cli import main

    main()

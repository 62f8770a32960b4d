"""Files that matter: replaced as a whole, and never lost without a word."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Give a file a new content, at once and for good: after a crash at any moment it has the old
    one or the new one. Only its owner may read it.

    @raise OSError: it can't be had; the old content is still there.
    """
    new = path.with_name(path.name + ".new")
    number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(number, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(number)
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def set_aside(path: Path) -> str:
    """Give a damaged file another name, for somebody to look at.

    @return: the name.
    @raise OSError: it can't be renamed.
    """
    number = 1
    while (other := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(other)
    return other.name

"""The folder of ``error_pages_path``: read when the configuration is, so that a reload sees changes."""

from __future__ import annotations

from pathlib import Path

Pages = tuple[tuple[int, str], ...]
"""Status and HTML."""


def read_pages(folder: Path) -> Pages:
    """The files ``CODE.html`` of a folder, where CODE is a status from 400 to 599.

    @raise ValueError: there is no such folder, or a file of it can't be read; the text names it.
    """
    if not folder.is_dir():
        raise ValueError("should be a folder that exists")
    pages = []
    for file in sorted(folder.glob("[45][0-9][0-9].html")):
        try:
            pages.append((int(file.stem), file.read_text("utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise ValueError(f"holds {file.name}, which can't be read: {reason}") from None
    return tuple(pages)

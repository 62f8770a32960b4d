"""The channel to a process that has been started."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from kproxy.workers.channel import Channel
from kproxy.workers.spawning import connect


class Full:
    """A reactor of a process that can open no more files."""

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_an_end_that_can_not_be_used_is_closed_so_that_nobody_waits_at_the_other() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.settimeout(10)
        with pytest.raises(OSError, match="open files"):
            connect(Full(), ours.detach(), Channel())
        assert theirs.recv(1) == b""

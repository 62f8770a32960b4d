"""The ports that clients come to."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from kproxy.config import Configuration
from kproxy.sockets import bound_socket

HTTPS = 443
"""The port for HTTPS, if nothing is said of it."""
RETRY = 10.0
"""Seconds until a port that a service needs, and that could not be had, is tried again."""


class CannotListen(Exception):
    """A port can't be had; the text says which, and why."""


@dataclass(frozen=True, slots=True)
class Port:
    """A socket that listens, for another program that goes on with it."""

    address: str
    port: int
    descriptor: int


class Binder:
    """Binds the sockets of ports.

    @param inherited: sockets that listen already. They are taken where they are asked for.
    """

    def __init__(self, inherited: Iterable[Port] = ()) -> None:
        self._inherited = {(each.address, each.port): each.descriptor for each in inherited}
        self._sockets: dict[tuple[str, int], socket.socket] = {}

    def bind(self, addresses: tuple[str, ...], port: int) -> list[socket.socket]:
        """Sockets that listen on a port.

        @param addresses: none: all there are, of both families where the machine has both.
        @raise CannotListen: one of them can't be had; none is left open.
        """
        sockets: dict[tuple[str, int], socket.socket] = {}
        for address in addresses or ("0.0.0.0", "::"):
            try:
                sockets[address, port] = self._bound(address, port)
            except OSError as error:
                if not addresses and address == "::" and sockets:
                    continue  # a machine without IPv6
                for sock in sockets.values():
                    sock.close()
                reason = error.strerror or str(error)
                raise CannotListen(f"can't listen on {address} port {port}: {reason}") from error
        self._sockets.update(sockets)
        return list(sockets.values())

    def _bound(self, address: str, port: int) -> socket.socket:
        descriptor = self._inherited.pop((address, port), None)
        if descriptor is None:
            return bound_socket(address, port)
        return socket.socket(fileno=descriptor)

    def close_unwanted(self) -> None:
        """Close what was inherited, and nobody has asked for."""
        for descriptor in self._inherited.values():
            os.close(descriptor)
        self._inherited.clear()

    def ports(self) -> tuple[Port, ...]:
        """What listens."""
        return tuple(
            Port(address, port, sock.fileno())
            for (address, port), sock in self._sockets.items()
            if sock.fileno() >= 0
        )


class HTTPSPort:
    """Where HTTPS is listened for.

    A proxy listens whether or not a service has TLS, since one may be deployed at any time. But one
    that serves plain HTTP only need not fail because somebody else has the port, or it is root's.
    Once a service needs HTTPS, such a port is tried again and again.

    @ivar missing: why the port could not be had; empty if it could, or is not wanted.
    """

    def __init__(
        self,
        addresses: tuple[str, ...],
        asked: int | None,
        configuration: Configuration,
        clock: IReactorTime,
        bind: Callable[[tuple[str, ...], int], list[socket.socket]],
    ) -> None:
        """@param asked: the port of the command line; 0: HTTPS is not wanted.
        @raise CannotListen: the port can't be had, and somebody counts on it."""
        said = configuration.run.https_port if asked is None else asked
        self._addresses = addresses
        self._port = HTTPS if said is None else said
        self._clock = clock
        self._bind = bind
        self._sockets: list[socket.socket] = []
        self._listen: Callable[[socket.socket], object] = _nobody
        self._timer: IDelayedCall | None = None
        self.missing = ""
        if self._port == 0:
            return
        try:
            self._sockets = bind(addresses, self._port)
        except CannotListen as error:
            self.missing = str(error)
            if said is not None or any(service.ssl for service in configuration.services):
                raise

    def start(self, listen: Callable[[socket.socket], object]) -> None:
        """@param listen: called with each socket, now or once it could be had."""
        self._listen = listen
        for sock in self._sockets:
            listen(sock)

    def why_not(self) -> str:
        """A service needs HTTPS: why it can't be reached by it; empty if it can."""
        if self._port == 0:
            return "it is turned off"
        if self._sockets:
            return ""
        try:
            self._sockets = self._bind(self._addresses, self._port)
        except CannotListen as error:
            if self._timer is None:
                self._timer = self._clock.callLater(RETRY, self._again)
            self.missing = str(error)
            return self.missing
        self.missing = ""
        for sock in self._sockets:
            self._listen(sock)
        return ""

    def _again(self) -> None:
        self._timer = None
        self.why_not()

    def close(self) -> None:
        """Try no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _nobody(sock: socket.socket) -> None:
    """Nobody listens yet."""

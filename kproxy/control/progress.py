"""What an operation tells of its way while somebody waits for it: plain data, as JSON has it.

Every event has the key ``event``, which says what other keys there are:

- ``queued``: another operation on the service is under way; ``service``.
- ``check``: a target was asked for its health; ``target``, ``attempt``, ``healthy``, ``failure``.
- ``switched``: new requests go to the new targets; ``service``, ``targets``, and ``rollout``, true,
  if only those of a rollout do.
- ``draining``: requests that are still under way; ``service``, ``requests``.
- ``restart``: another program is to take the place of this one; ``step``, which is ``waiting`` (for
  other operations), ``rehearsing`` or ``replacing``. After that the connection ends.
- ``warning``: it was done, but something is wrong; ``message``.
- ``done``, or ``failed`` with ``error``: the last one.
"""

from __future__ import annotations

from collections.abc import Callable

Event = dict[str, object]
Tell = Callable[[Event], object]


def untold(event: Event) -> None:
    """For operations that nobody waits for."""

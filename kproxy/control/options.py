"""From the options of a deployment (`kproxy.control.flags`) to the service that they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kproxy.config import checks
from kproxy.config.model import Buffering, Logging, Service
from kproxy.control.flags import BY_KEY, ROLLOUT_FLAGS, BadFlag, Flag, Kind
from kproxy.control.tls_flags import with_tls
from kproxy.durations import show_duration
from kproxy.snapshot import Split

_TYPES: dict[Kind, tuple[type | tuple[type, ...], str]] = {
    "text": (str, "a text"),
    "path": (str, "a text"),
    "texts": (list, "a list of texts"),
    "boolean": (bool, "true or false"),
    "integer": (int, "an integer"),
    "duration": ((int, float), "a number of seconds"),
}


def unconfigured(name: str) -> Service:
    """A service that only the command line knows, before its first option.

    @raise BadFlag: the name is none.
    """
    try:
        checks.service_name(name)
    except ValueError as error:
        raise BadFlag(f"the name of a service {error}") from None
    return Service(
        name=name,
        targets=(),
        buffering=Buffering(requests=False, responses=False, max_request_body=0),
        logging=Logging(request_headers=()),
    )


def default_of(flag: Flag) -> str:
    """What holds for a service that only the command line knows, as it would be written; empty:
    nothing."""
    base = unconfigured("x")
    value: Any = base
    for part in flag.field.split(".") if flag.field else ():
        value = getattr(value, part)
    if value is base:
        return "false" if flag.kind == "boolean" else ""
    if flag.kind == "duration":
        return show_duration(value)
    if flag.kind == "boolean":
        return "true" if value else "false"
    if flag.kind == "integer":
        return str(value or 0)
    return ",".join(map(str, value)) if flag.kind == "texts" else str(value or "")


def deployed(base: Service, options: Mapping[str, Any]) -> Service:
    """A service with the options of a deployment.

    @param base: what holds where no option says anything else.
    @raise BadFlag: an option is unknown or wrong.
    """
    changes: dict[str, Any] = {}
    for key, given in options.items():
        flag = BY_KEY.get(key)
        if flag is None:
            raise BadFlag(f"there is no option {key}")
        value = checked(flag, given)
        if not flag.field:
            continue
        part, _, field = flag.field.rpartition(".")
        if part:
            changes[part] = replace(changes.get(part, getattr(base, part)), **{field: value})
        else:
            changes[field] = value
    if "target" not in options:
        raise BadFlag("a deployment needs a target: --target HOST:PORT")
    try:
        return with_tls(replace(base, **changes), base, options)
    except ValueError as error:
        raise BadFlag(str(error)) from None


def rolled_out(service: Service, options: Mapping[str, Any]) -> Service:
    """A service as the targets of its rollout serve it.

    @param options: values of `ROLLOUT_FLAGS`.
    @raise BadFlag: an option is unknown or wrong.
    """
    known = {flag.key for flag in ROLLOUT_FLAGS}
    for key in options:
        if key not in known:
            raise BadFlag(f"there is no option {key}")
    return deployed(replace(service, read_targets=()), options)


def split_of(options: Mapping[str, Any]) -> Split:
    """What the options of ``rollout set`` say: ``percent``, ``list``, or both.

    @raise BadFlag: an option is unknown or wrong, or there is none.
    """
    for key in options:
        if key not in ("percent", "list"):
            raise BadFlag(f"there is no option {key}")
    if not options:
        raise BadFlag("rollout set needs --percent, --list, or both")
    percent, allowed = options.get("percent", 0), options.get("list", [])
    if not isinstance(percent, int) or isinstance(percent, bool) or not 0 <= percent <= 100:
        raise BadFlag("percent should be an integer from 0 to 100")
    if not isinstance(allowed, list) or not all(isinstance(each, str) for each in allowed):
        raise BadFlag("list should be a list of texts")
    return Split(percent, tuple(dict.fromkeys(filter(None, allowed))))


def checked(flag: Flag, value: Any) -> Any:
    """What an option's field gets.

    @raise BadFlag: the value is wrong.
    """
    kinds, described = _TYPES[flag.kind]
    if not isinstance(value, kinds) or (isinstance(value, bool) and flag.kind != "boolean"):
        raise BadFlag(f"{flag.name} should be {described}")
    if isinstance(value, list) and not all(isinstance(each, str) for each in value):
        raise BadFlag(f"{flag.name} should be {described}")
    if isinstance(value, (int, float)) and not 0 <= value < 2**53:
        raise BadFlag(f"{flag.name} should be at least 0")
    try:
        return value if flag.check is None else flag.check(value)
    except ValueError as error:
        raise BadFlag(f"{flag.name} {error}") from None

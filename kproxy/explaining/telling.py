"""What was seen of a request, as JSON has it; docs/openapi.yaml describes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kproxy.explaining.question import Question
from kproxy.explaining.walk import ROUTER, TARGET, Fields, Step, Walk
from kproxy.wrappers.gate import GateControl

_REASONS = {
    (ROUTER, 404): "no service has this host and path",
    (ROUTER, 400): "as it is written the path is one service's, and as it may be read another's",
    (TARGET, 503): "no target is healthy",
    ("ssl-redirect", 301): "plain HTTP is redirected to HTTPS",
    ("canonical-host", 301): "other hosts are redirected to the canonical one",
    ("gate", None): "the service is paused",
    ("gate", 503): "the service is stopped",
    ("gate", 200): "the health check of a paused or stopped service is answered for it",
    ("request-buffer", 413): "the body is larger than is allowed",
    ("request-limit", 413): "the body is larger than is allowed",
}

_LONGEST = 60
"""Characters of an option that are told: error pages are whole pages."""


def told(question: Question, walk: Walk, request: Any) -> dict[str, Any]:
    """What there is to tell once a request has come to the end of its way."""
    by = [step.link.name for step in walk.steps if step.seen is not None][-1]
    status = request.code if walk.answered else None
    outcome = "answered" if walk.answered else "held" if walk.held else "undecided"
    answer: dict[str, Any] = {
        "url": question.url,
        "method": question.method,
        "service": walk.service,
        "path_prefix": _text(walk.prefix) or None,
        "outcome": outcome if walk.target is None else "sent",
        "by": by,
        "reason": "",
        "way": [_way(walk.steps, number) for number in range(len(walk.steps))],
    }
    if walk.target is not None:
        line, *fields = walk.sent.rstrip(b"\r\n").split(b"\r\n")
        answer["target"] = walk.target
        answer["request"] = {"line": _text(line), "headers": _pairs(fields)}
        return answer
    answer["reason"] = _REASONS.get((by, status), "")
    if walk.answered:
        fields = b"\r\n".join(request.responseHeaders.lines()).split(b"\r\n")
        answer["answer"] = {"status": status, "headers": _pairs(fields)}
    return answer


def _pairs(lines: Sequence[bytes]) -> list[list[str]]:
    return [_text(line).split(": ", 1) for line in lines if line]


def _way(steps: Sequence[Step], number: int) -> dict[str, Any]:
    step = steps[number]
    after = steps[number + 1].seen if number + 1 < len(steps) else None
    return {
        "name": step.link.name,
        "options": _options(step.link.options),
        "reached": step.seen is not None,
        "changes": [] if step.seen is None or after is None else _changes(step.seen, after),
    }


def _changes(before: tuple[bytes, Fields], after: tuple[bytes, Fields]) -> list[str]:
    """What a wrapper did to a request, in words."""
    came, left = before[1], after[1]
    new = [field[0] for name, field in left.items() if came.get(name, ())[1:] != field[1:]]
    gone = [field[0] for name, field in came.items() if name not in left]
    changes = [f"{_text(before[0])} becomes {_text(after[0])}"] if after[0] != before[0] else []
    for what, lines in (("sets", new), ("removes", gone)):
        if lines:
            names = (_text(line.partition(b":")[0]) for line in lines)
            changes.append(f"{what} {', '.join(names)}")
    return changes


def _options(options: Any) -> dict[str, Any]:
    """Options as JSON has them; but for what is no plain data, and what a wrapper's options hide
    from their own repr, since that may be a secret."""
    if not dataclasses.is_dataclass(options):
        return {}
    shown = {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.repr}
    control = shown.get("control")
    if isinstance(control, GateControl):
        shown.update(state=control.state, message=control.message, max_pause=control.max_pause)
    return {name: _short(value) for name, value in shown.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, Path))


def _short(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_short(each) for each in value]
    text = str(value) if isinstance(value, Path) else value
    return text[:_LONGEST] + "…" if isinstance(text, str) and len(text) > _LONGEST else text


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")

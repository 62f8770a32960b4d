"""``NAME`` or ``NAME: {options}``: how a deploy.yml uses a plug-in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from kproxy.config.model import WrapperUse
from kproxy.config.node import Node, Rejected, Report
from kproxy.config.schema import did_you_mean


class Validator(Protocol):
    """What is needed of a plug-in to read a file: a part of `IWrapperPlugin`."""

    def validate(self, node: Node, report: Report) -> object:
        """Make the plug-in's options of what was written, or report what is wrong with it."""


def read_uses(
    node: Node | None, plugins: Mapping[str, Validator], report: Report
) -> tuple[WrapperUse, ...]:
    """``x-kproxy.wrappers``; entries that can't be used are reported and left out."""
    if node is None:
        return ()
    if node.tag != "seq":
        node.report(report, f"should be a list of wrappers, is {node.describe()}")
        return ()
    uses = (read_use(element, plugins, report, "wrapper") for element in node.elements())
    return tuple(use for use in uses if use is not None)


def read_use(
    node: Node, plugins: Mapping[str, Validator], report: Report, kind: str
) -> WrapperUse | None:
    """One use of a plug-in; None if there was a problem, which has been reported.

    @param kind: what the plug-in is, for messages.
    """
    entries = list(node.items())
    if node.tag == "str":
        name, options = node.text, Node(node.empty().raw, (*node.path, node.text))
    elif node.tag == "map" and len(entries) == 1:
        name, options = entries[0]
        if options.is_null:
            options = options.empty()
    else:
        found = f"a map of {len(entries)} keys" if node.tag == "map" else node.describe()
        node.report(report, f"should be NAME or NAME: {{options}} of one {kind}, is {found}")
        return None
    plugin = plugins.get(name)
    if plugin is None:
        known = ", ".join(sorted(plugins)) or "none"
        guess = did_you_mean(name, plugins) or f"; installed: {known}"
        report.add(node.position, node.key, f'there is no {kind} "{name}"{guess}')
        return None
    # A report of its own shows whether it was this plug-in that found a problem.
    found_here = Report()
    made: object = None
    try:
        made = plugin.validate(options, found_here)
    except Rejected:
        if not found_here:
            options.report(found_here, f'the {kind} "{name}" rejects it without a reason')
    except Exception as error:  # A third party's code; what it raises is not ours to foresee.
        # The text of the exception may quote an option, and an option may be a secret.
        failure = f'the {kind} "{name}" failed to check it: {type(error).__name__}'
        options.report(found_here, failure)
    report.absorb(found_here)
    return None if found_here else WrapperUse(name, made)

"""The way of a request, found out without sending it: what ``kproxy explain`` shows.

The request is made in memory, and really walks the tree: the chains that requests walk, assembled
anew around a leaf that tells in place of sending. What wrappers remember is therefore not touched (a
rate limiter charges nobody), no line goes to the access log, and nothing waits at a gate. A wrapper
that acts outside of the process can tell by ``request.notes["explained"]`` that nobody has asked.
"""

from __future__ import annotations

from kproxy.explaining.asking import explain
from kproxy.explaining.question import BadQuestion, Question
from kproxy.explaining.walk import PATIENCE, Walk

__all__ = ["PATIENCE", "BadQuestion", "Question", "Walk", "explain"]

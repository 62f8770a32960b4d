"""What can go wrong with a CA, in sentences for an operator (RFC 8555 section 6.7, RFC 7807)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

URN = "urn:ietf:params:acme:error:"

BAD_NONCE = f"{URN}badNonce"
RATE_LIMITED = f"{URN}rateLimited"
ACCOUNT_DOES_NOT_EXIST = f"{URN}accountDoesNotExist"
EXTERNAL_ACCOUNT_REQUIRED = f"{URN}externalAccountRequired"
ALREADY_REVOKED = f"{URN}alreadyRevoked"
ALREADY_REPLACED = f"{URN}alreadyReplaced"
MALFORMED = f"{URN}malformed"
UNAUTHORIZED = f"{URN}unauthorized"

_LONGEST = 1000


class AcmeError(Exception):
    """A certificate can't be had, or something else that was asked of a CA.

    ``str()`` of it is one line for an operator, with the CA's own words where it said any. Neither
    it nor the attributes hold anything secret.
    """

    def __init__(
        self,
        detail: str,
        *,
        type: str = "",  # noqa: A002 (the name that RFC 7807 gives it)
        status: int = 0,
        retry_after: float | None = None,
        subproblems: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.detail = one_line(detail)
        self.type = type
        """``urn:ietf:params:acme:error:…`` of the CA; empty: it did not say, or was not reached."""
        self.status = status
        """Of the HTTP response; 0: there was none."""
        self.retry_after = retry_after
        """Seconds from now that the CA wants to be left alone; None: it did not say."""
        self.subproblems = tuple((one_line(name), one_line(text)) for name, text in subproblems)
        """Names, and the CA's words about each."""
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """All that is to be said, in one line."""
        text = self.detail
        if self.type:
            text = f"{text or 'refused'} ({self.type.removeprefix(URN)})"
        if self.subproblems:
            text += ": " + "; ".join(f"{name}: {words}" for name, words in self.subproblems)
        return text


class Unreachable(AcmeError):
    """The CA was not reached, did not answer in time, or its TLS certificate is not trusted."""


class BadAnswer(AcmeError):
    """The CA answered what makes no sense."""


class ChallengeFailed(AcmeError):
    """The CA could not see that names are ours; `subproblems` has its words for each name."""


def problem_of(
    document: Mapping[str, Any],
    *,
    status: int = 0,
    retry_after: float | None = None,
    otherwise: str = "the CA refused without saying why",
) -> AcmeError:
    """The error that a problem document describes; whatever it holds, this does not fail."""
    subproblems = []
    listed = document.get("subproblems")
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, dict):
            identifier = each.get("identifier")
            name = _text(identifier, "value") if isinstance(identifier, dict) else ""
            subproblems.append((name or "in general", words_of(each)))
    return AcmeError(
        _text(document, "detail") or _text(document, "title") or otherwise,
        type=_text(document, "type"),
        status=status,
        retry_after=retry_after,
        subproblems=tuple(subproblems),
    )


def words_of(document: Mapping[str, Any]) -> str:
    """A problem document in one line."""
    return problem_of(document).sentence()


def one_line(text: str) -> str:
    """What somebody else wrote, fit for a log: no control characters, and not endless."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _LONGEST]).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""

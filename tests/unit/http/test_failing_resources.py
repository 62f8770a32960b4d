"""A resource that raises costs its own request, and tells the client nothing."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.http.memory import Engine, Streaming, get, read_messages


class Breaks(Streaming):
    """Fails, for `/later` after it has written something."""

    def render(self, request: Any) -> bytes:
        request.setHeader(b"x-secret", b"1")
        request.addCookie(b"session", b"secret")
        if request.path == b"/later":
            request.write(b"half")
        if request.path == b"/fine":
            return b"fine"
        raise ZeroDivisionError("a secret of the application")


class Tests(SynchronousTestCase):
    def test_an_error_before_the_answer_is_a_500_without_details(self) -> None:
        client = Engine(Breaks()).client()
        client.send(get(b"/"))
        answer = client.take()
        assert read_messages(answer)[0].status == 500
        for detail in (b"secret", b"Secret", b"Traceback", b"ZeroDivision"):
            assert detail not in answer
        client.send(get(b"/fine"))
        assert read_messages(client.take())[0].body == b"fine"
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_an_error_in_the_middle_of_the_answer_cuts_the_connection(self) -> None:
        client = Engine(Breaks()).client()
        client.send(get(b"/later") + get(b"/fine"))
        assert client.aborted
        assert not client.received.endswith(b"0\r\n\r\n")
        assert b"fine" not in client.received
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    def test_a_result_that_is_not_bytes_is_a_500(self) -> None:
        class Text(Streaming):
            def render(self, request: Any) -> Any:
                return "text"

        assert Engine(Text()).ask(get()).status == 500
        assert len(self.flushLoggedErrors()) == 1

    def test_a_content_length_that_is_not_a_number_cuts_the_connection(self) -> None:
        class Wrong(Streaming):
            def render(self, request: Any) -> Any:
                request.setHeader(b"content-length", b"many")
                request.write(b"x")
                request.finish()

        client = Engine(Wrong()).client()
        client.send(get())
        assert client.aborted
        assert client.received == b""
        assert len(self.flushLoggedErrors(ValueError)) == 1

"""Every contract of kproxy in one place, to read first.

A request walks a chain of wrappers. A wrapper is an ordinary ``twisted.web.resource.IResource`` that
is given the resource it wraps; it may answer itself, change the request, or watch and change the
response, and it knows nothing of its neighbours. `IRequest` of Twisted is all that most wrappers need.
What a streaming proxy needs beyond it is `IStreamingRequest`; `kproxy.streaming.streaming` gives it for
any request, kproxy's own or that of a stock ``twisted.web.server.Site``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.web.iweb import IRequest
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.python.failure import Failure
    from twisted.web.resource import IResource
    from txacme.interfaces import IResponder

    from kproxy.tls.acme.dns01 import Surroundings
    from kproxy.tls.acme.interfaces import CertificateStore
    from kproxy.tls.acme.stores import StoreSurroundings

    Pairs = list[tuple[bytes, bytes]]
    FinishCallback = Callable[["IStreamingRequest", Failure | None], object]


class IWrapperPlugin(Interface):
    """A kind of wrapper, announced through ``twisted.plugin`` in the package ``kproxy.plugins``.

    The wrappers that come with kproxy are announced in the same way.
    `kproxy.plugins.WrapperPlugin` implements this interface.
    """

    name: str = Attribute("What deploy.yml calls it: lower case, digits and dashes.")
    description: str = Attribute("One sentence for `kproxy wrappers`.")
    options: object = Attribute("A `kproxy.config.schema.Section`: the options it takes.")

    def validate(node: object, report: object) -> object:
        """Turn the options written in deploy.yml into the value that `wrap` takes.

        @param node: the `kproxy.config.schema.Node` of the options (empty when none were written).
        @param report: a `kproxy.config.schema.Report`, which takes each problem with its position.
        @return: plain data that compares by value; what it is does not matter if problems were reported.
        """

    def wrap(resource: IResource, options: object) -> IResource:
        """Put the wrapper around a resource.

        @param options: what `validate` returned.
        """


class IDNSResponderPlugin(Interface):
    """A way to put records into the DNS, with which a CA is shown by DNS-01 that a name is ours.

    It is announced as a wrapper is. `kproxy.plugins.DNSResponderPlugin` implements this interface.
    """

    name: str = Attribute("What x-kproxy.acme.dns calls it: lower case, digits and dashes.")
    description: str = Attribute("One sentence.")
    options: object = Attribute("A `kproxy.config.schema.Section`: the options it takes.")

    def validate(node: object, report: object) -> object:
        """See `IWrapperPlugin.validate`."""

    def responder(options: object, around: Surroundings) -> IResponder:
        """Make a responder.

        Its methods may raise, or their Deferreds fail with, `kproxy.tls.acme.errors.AcmeError`, whose
        text the operator reads. Of any other exception only the type is shown.

        @param options: what `validate` returned.
        @return: with ``challenge_type = "dns-01"``. Its `start_responding` returns a Deferred that
            fires once the zone's servers show the record; `kproxy.tls.acme.dns01.record_name` and
            `record_value` tell which. A name may need several values at a time.
        """


class ICertificateStorePlugin(Interface):
    """A place for automatic certificates that several servers share.

    It is announced as a wrapper is. `kproxy.plugins.CertificateStorePlugin` implements this interface.
    """

    name: str = Attribute("What x-kproxy.acme.store calls it: lower case, digits and dashes.")
    description: str = Attribute("One sentence.")
    options: object = Attribute("A `kproxy.config.schema.Section`: the options it takes.")

    def validate(node: object, report: object) -> object:
        """See `IWrapperPlugin.validate`."""

    def store(options: object, around: StoreSurroundings) -> CertificateStore:
        """Make the store of one CA. It may raise `OSError`, and is asked again then.

        Of exceptions of its methods that are no `OSError`, only the type is shown.

        @param options: what `validate` returned.
        @return: what `kproxy.tls.acme.interfaces.CertificateStore` says; methods may be ``async``.
        """


class IBodyReceiver(Interface):
    """What takes a body while it arrives."""

    def body_data(data: bytes) -> None:
        """Take the next piece, which is never empty."""

    def body_end(trailers: Pairs) -> None:
        """The body is complete. Called once, and nothing follows.

        @param trailers: the trailer fields after the last chunk, mostly none.
        """

    def body_lost(reason: Exception) -> None:
        """The body will never be complete. Called once, in place of `body_end`."""


class IBody(Interface):
    """A body that has not been taken yet: that of a request, at the client's pace."""

    length: int | None = Attribute("Bytes; 0: there is none; None: not known before its end.")
    replayable: bool = Attribute("Whether `start` may be called again, with another receiver.")

    def start(receiver: IBodyReceiver) -> None:
        """Let the body flow into a receiver. The client hears "100 Continue" if it waits for it."""

    def pause() -> None:
        """Send nothing more for now. A piece or two that were on their way may still come."""

    def resume() -> None:
        """Go on after `pause`."""

    def stop() -> None:
        """The receiver wants no more; none of its methods is called again."""


class IResponseSink(Interface):
    """What takes a response: the connection, or a filter on the way to it.

    A filter is a sink that passes what it gets to the next sink, changed or not, now or later. The
    status and headers are those of the request (`IRequest.code`, `responseHeaders`) when `begin` is
    called; a filter may change them before it passes `begin` on.
    """

    def begin() -> None:
        """The status and headers are decided. Called once, before anything else."""

    def write(data: bytes) -> None:
        """Take a piece of the body."""

    def finish() -> None:
        """The response is complete."""

    # The sink that is a connection may also have
    #     send_file(file, length, in_thread, done) -> bool
    # which sends the first bytes of a file by itself and then calls done(), or returns False.
    #
    # Any sink may also have
    #     write_lent(data: memoryview)
    # which is `write` for memory that is used for something else when it returns. What the sink keeps,
    # it copies. It passes on the rest with `kproxy.http.lifecycle.lend`.

    def stop() -> None:
        """The response is wanted no more: the client left, or gets an error page in its place.

        A filter lets go of what it holds, passes this on, and nothing else from then on.
        """

    def register_producer(producer: object) -> None:
        """Tell who makes the body (an `IPushProducer`), so that a slow client can slow it.

        It may also be a `kproxy.transfer.Source`. That is for a sink which gets the body as it is made
        only, so that a filter has to ask (`Lifecycle.maker_for`) whether it does.
        """

    def unregister_producer() -> None:
        """The producer has made everything."""


class IErrorPages(Interface):
    """Makes the pages for the answers that the proxy gives itself."""

    def page(code: int, message: str) -> bytes:
        """The HTML page for a status.

        @param message: what an operator said when the service was stopped; mostly empty.
        """


class IStreamingRequest(IRequest):
    """What a request offers beyond Twisted's `IRequest`: bodies that stream, and the life of it."""

    streams: bool = Attribute("True: the quick way to know that this interface is offered.")
    body: object = Attribute("The `IBody` of the request. A wrapper may put another in its place.")
    form_pending: bool = Attribute("Whether `args` still lacks what a form in the body may hold.")
    upgrade: bytes = Attribute("The protocols that the client asks to switch to; mostly empty.")
    took: int = Attribute("Nanoseconds from its head to its end, for `on_finish`; 0 before that.")
    response_trailers: Pairs = Attribute("Fields to send after a chunked body; set before finish.")
    notes: dict[str, object] = Attribute(
        "What one wrapper tells others about this request without knowing them. Known names: "
        '"service" and "target" (str, for the access log), "error_pages" (an `IErrorPages`), '
        '"path_prefix" (bytes: what was stripped of the path), '
        '"explained" (true: nobody has asked, `kproxy explain` only wants to know the way), '
        '"refusal" (the status that the engine has for a request it could not read).'
    )

    def on_finish(callback: FinishCallback) -> None:
        """Hear of the end: callback(request, None) once answered, callback(request, failure) if the
        client left."""

    def add_filter(make: Callable[[IStreamingRequest, IResponseSink], IResponseSink]) -> None:
        """Put a filter between the wrapped resource and the sink it would write to now."""

    def begun() -> bool:
        """Whether a part of the response has left for the client, so that it can't be changed."""

    def restart_response() -> None:
        """Forget the status, headers and body so far, and the filters that hold them.

        For an error page in place of what was to be the response; not to be called once `begun`.
        """

    def inform(code: int, headers: Pairs) -> None:
        """Send an interim (1xx) response, where the protocol has them."""

    def switch_protocols(code: int, headers: Pairs, transport: object, early: bytes) -> bool:
        """Answer an upgrade (101), and tie the client's connection to the target's, both ways.

        The request ends when both have closed.

        @param transport: the target's (asyncio's shape), which is taken over.
        @param early: what the target has already sent behind its 101.
        @return: whether the client's connection could be had; if not, nothing was done.
        """

    def abort() -> None:
        """Cut the client off, so that half a response can't be taken for a whole one."""

"""kproxy's own HTTP engine: HTTP/1.1 behind Twisted's `IRequest`. It knows nothing of services."""

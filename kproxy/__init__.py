"""kproxy: a reverse proxy on Twisted that deploys without gaps."""

__version__ = "0.1.0"

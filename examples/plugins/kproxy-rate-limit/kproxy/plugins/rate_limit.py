"""Announces the wrapper to kproxy."""

from kproxy.config.schema import Integer, Option, Seconds, Section
from kproxy.plugins import WrapperPlugin

rate_limit = WrapperPlugin(
    name="rate-limit",
    description="Answers 429 to clients that send too many requests.",
    factory="kproxy_rate_limit.RateLimit",
    options=Section(
        Option(
            "requests",
            Integer(minimum=1),
            required=True,
            help="How many a client may send in the time `per`.",
        ),
        Option("per", Seconds(above=0), help="The time for so many requests."),
        Option(
            "burst",
            Integer(minimum=1),
            help="How many may come at once; as many as `requests` by default.",
        ),
        Option(
            "trusted_proxies",
            Integer(minimum=0),
            help="How many proxies of your own stand before this one.",
        ),
        Option("clients", Integer(minimum=1), help="How many clients are remembered at most."),
        into="kproxy_rate_limit.Limits",
    ),
)

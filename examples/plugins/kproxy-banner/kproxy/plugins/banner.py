"""Announces the wrapper to kproxy."""

from kproxy.config.schema import Integer, Option, Section, Text
from kproxy.plugins import WrapperPlugin

banner = WrapperPlugin(
    name="banner",
    description="Puts a banner on top of HTML pages, while they stream.",
    factory="kproxy_banner.Banner",
    options=Section(
        Option("html", Text(), required=True, help="What to put there, as HTML."),
        Option(
            "search",
            Integer(minimum=1),
            help="In how many bytes of a page <body> is looked for; so many are held meanwhile.",
        ),
        into="kproxy_banner.Options",
    ),
)

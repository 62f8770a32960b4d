"""What `twistd` finds. It loads with every run of `twistd`, so it must not import kproxy itself."""

from twisted.application.service import ServiceMaker

kproxy = ServiceMaker(
    "kproxy", "kproxy.tap", "A reverse proxy that deploys without gaps.", "kproxy"
)

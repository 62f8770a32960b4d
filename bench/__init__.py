"""Compares kproxy with other reverse proxies, on one machine, in one run: see bench/README.md."""

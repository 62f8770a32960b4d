"""The side of the targets: connections, their pools, balancing, and the leaf that proxies."""

from kproxy.metrics.counts cimport Counts, Ongoing
from kproxy.streaming cimport streaming

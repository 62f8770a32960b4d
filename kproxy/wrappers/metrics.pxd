from kproxy.streaming cimport streaming

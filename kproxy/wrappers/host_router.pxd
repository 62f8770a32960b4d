from kproxy.http.lifecycle cimport request_fields
from kproxy.streaming cimport streaming

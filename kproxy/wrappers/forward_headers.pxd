from kproxy.http.lifecycle cimport request_fields
cdef bytes _FOR, _HOST, _PROTO
cdef tuple _HTTP, _HTTPS

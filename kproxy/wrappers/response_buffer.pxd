from kproxy.http.lifecycle cimport response_fields
from kproxy.streaming cimport streaming
cdef class _Held:
    cdef object _options, _producer, _request, _sender, _sink, _spool
    cdef bint _direct
    cdef list _parts
    cdef long long _size

    cdef _set_length(self)

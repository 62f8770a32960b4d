from kproxy.http.lifecycle cimport Lifecycle, lend, response_fields
from kproxy.streaming cimport streaming
cdef class _Held:
    cdef object _options, _producer, _request, _sender, _sink, _spool
    cdef bint _direct
    cdef list _parts
    cdef long long _size

    cpdef write_lent(self, data)
    cdef bint _completes(self, long long size) except -1
    cdef long long _announced(self) except? -1
    cdef _pass_on(self)
    cdef _set_length(self)

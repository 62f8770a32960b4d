cdef class NoBody:
    pass

cdef class ReceivedBody:
    cdef public bint complete, expects_continue, started
    cdef public object length
    cdef object _decoder, _receiver
    cdef long long _left
    # A subclass that is not compiled (that of HTTP/2) uses the rest.
    cdef public object _source
    cdef public bint _paused
    cdef public list _trailers, _waiting

    cpdef bytes feed(self, bytes data)
    cpdef lose(self, reason)
    cpdef stop(self)
    cpdef _deliver(self)

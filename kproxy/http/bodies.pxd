cdef class NoBody:
    pass

cdef class ReceivedBody:
    cdef public bint complete, expects_continue, started
    cdef public object length
    cdef readonly long long received
    cdef object _decoder, _receiver, _source
    cdef long long _left
    cdef bint _paused
    cdef list _trailers, _waiting

    cpdef bytes feed(self, bytes data)
    cpdef lose(self, reason)
    cpdef stop(self)
    cdef _deliver(self)

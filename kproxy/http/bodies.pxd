cdef class NoBody:
    pass

cdef class ArrivingBody:
    cdef public bint complete, expects_continue, started
    cdef public object length
    cdef readonly long long received
    cdef object _receiver, _source
    cdef bint _paused
    cdef list _trailers, _waiting

    cpdef take(self, list pieces)
    cpdef lose(self, reason)
    cpdef stop(self)
    cdef _deliver(self)

cdef class ReceivedBody(ArrivingBody):
    cdef object _decoder
    cdef long long _left

    cpdef bytes feed(self, bytes data)

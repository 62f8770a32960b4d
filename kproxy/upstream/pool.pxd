cimport cython
from kproxy.http.deadlines cimport Deadlines
from kproxy.upstream.connection cimport UpstreamConnection

cdef class TargetPool:
    cdef readonly object target
    cdef readonly str address
    cdef readonly bytes address_bytes
    cdef readonly set active
    cdef readonly Deadlines stalled
    cdef readonly bint closed
    cdef object _clock, _counts, _heads, _network
    cdef readonly dict _idle
    cdef Deadlines _idle_limit

    @cython.locals(connection=UpstreamConnection)
    cpdef UpstreamConnection acquire(self)
    cpdef release(self, UpstreamConnection connection)
    cpdef lost(self, connection)

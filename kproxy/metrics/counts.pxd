cimport cython
from kproxy.http.lifecycle cimport Lifecycle

cdef double _FIRST

cdef class Histogram:
    cdef list _buckets
    cdef double _total

    @cython.locals(bucket=Py_ssize_t)
    cpdef observe(self, double seconds)

cdef class ServiceCounts:
    cdef public long long connect_failures, received, sent
    cdef readonly Histogram connects, responses
    cdef readonly dict durations
    cdef frozenset _excluded

    cpdef bint counts(self, bytes path) except -1
    @cython.locals(by_status=dict, durations=Histogram)
    cpdef ended(self, bytes method, status, double seconds)

cdef class Counts:
    cdef object _end
    cdef dict _handshakes, _ongoing, _services

    cpdef ServiceCounts find(self, name)
    @cython.locals(own=Lifecycle)
    cpdef begin(self, request)
    @cython.locals(own=Lifecycle, counts=ServiceCounts, path=bytes, notes=dict, method=bytes,
                   status=int, took="long long", sent="long long")
    cpdef end(self, request, failure)

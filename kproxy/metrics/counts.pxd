cimport cython

cdef class Histogram:
    cdef list _buckets
    cdef double _total

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
    cdef dict _handshakes, _services
    cdef readonly set in_flight

    cpdef ServiceCounts find(self, name)

cdef class Ongoing:
    cdef Counts _counts
    cdef dict _notes
    cdef object _body
    cdef readonly bytes path

    cpdef service(self)
    @cython.locals(counts=ServiceCounts, took=double)
    cpdef ended(self, request, failure)

cdef class Deadlines:
    cdef readonly double limit
    cdef object _clock, _expired, _now, _timer
    cdef dict _entries

    cpdef add(self, item)
    cpdef remove(self, item)

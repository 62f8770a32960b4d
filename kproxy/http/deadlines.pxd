cdef class Deadlines:
    cdef readonly double limit
    cdef object _clock, _expired, _now, _timer
    cdef dict _entries

    cpdef add(self, item)
    cpdef remove(self, item)
    cpdef done(self, item)

cdef class TimedDeadlines(Deadlines):
    cdef object _took

    cpdef done(self, item)

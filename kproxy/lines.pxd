cdef class LineWriter:
    cdef readonly object _descriptor
    cdef object _clock, _in_thread, _lock, _path, _timer
    cdef readonly list _lines
    cdef readonly list _pieces
    cdef list _writing
    cdef bint _busy, _closed, _failing
    cdef Py_ssize_t _lost

    cdef _join(self)
    cdef _write_lines(self)
    cpdef write(self, str line)

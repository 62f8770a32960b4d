cdef class FieldCache:
    cdef readonly dict entries
    cdef object _marks

    cpdef tuple read(self, bytes line)

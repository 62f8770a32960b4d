cimport cython
from kproxy.http.heads cimport HeadParser, ResponseHead

cdef class UpstreamConnection:
    cdef object __weakref__
    cdef public object pool, transport
    cdef object _decoder, _exchange, _left, _made, _room
    cdef HeadParser _heads
    cdef bytes _buffer, _method
    cdef bint _persistent, _reading, _used
    cdef Py_ssize_t _small_reads, _unsent

    cpdef begin(self, exchange, bytes method, bytes head)
    cpdef data_received(self, bytes data)
    cpdef buffer_updated(self, Py_ssize_t size)
    cdef _received(self, data)
    @cython.locals(text=bytes, end=bytes, head=ResponseHead)
    cdef _head(self, exchange, data)
    @cython.locals(length="long long")
    cdef _response(self, exchange, ResponseHead head, data)
    @cython.locals(left="long long")
    cdef _body(self, exchange, data)
    cdef _end(self, exchange, trailers)
    cdef _release(self)
    cpdef drop(self)
    cpdef read(self, bint wanted)

@cython.locals(text=bytes, end=bytes)
cdef tuple _partition(data)

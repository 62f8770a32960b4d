cimport cython
from kproxy.http.heads cimport HeadParser, ResponseHead

cdef class UpstreamConnection:
    cdef object __weakref__
    cdef public object pool, transport
    cdef object _decoder, _exchange, _left, _made
    cdef HeadParser _heads
    cdef bytes _buffer, _method
    cdef bint _persistent, _reading, _used
    cdef Py_ssize_t _unsent

    cpdef begin(self, exchange, bytes method, bytes head)
    @cython.locals(text=bytes, end=bytes, rest=bytes, head=ResponseHead)
    cdef _head(self, exchange, bytes data)
    @cython.locals(length="long long")
    cdef _response(self, exchange, ResponseHead head, bytes data)
    @cython.locals(left="long long")
    cdef _body(self, exchange, bytes data)
    cdef _end(self, exchange, trailers)
    cdef _release(self)
    cpdef drop(self)
    cpdef read(self, bint wanted)

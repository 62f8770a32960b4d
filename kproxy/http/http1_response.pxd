cimport cython
from kproxy.http.bodies cimport ReceivedBody
from kproxy.http.lifecycle cimport Lifecycle

cdef dict _STATUS_LINES
cdef tuple _NO_STATUS

cdef class ResponseHalf:
    cdef object __weakref__
    cdef public object site, transport
    cdef public bint secure
    cdef ReceivedBody _body
    cdef Lifecycle _request
    cdef object _client, _host, _left, _producer
    cdef bytes _head
    cdef bint _chunked, _closing, _keep_alive, _no_body, _write_paused
    cdef Py_ssize_t _unsent

    cdef _request_done(self, Lifecycle request)
    @cython.locals(fields=dict, lines=list, request=Lifecycle, code=int, no_body=bint, extra=bytes, length=tuple, field=tuple)
    cpdef begin(self)
    cdef bint _may_write(self, Py_ssize_t size) except -1
    @cython.locals(size=Py_ssize_t, head=bytes)
    cpdef write(self, bytes data)
    @cython.locals(size=Py_ssize_t, sent=Py_ssize_t, head=bytes)
    cpdef write_lent(self, data)
    @cython.locals(request=Lifecycle, rest=bytes)
    cpdef finish(self)
    cpdef abort(self)

cimport cython
from kproxy.http.bodies cimport ReceivedBody
from kproxy.http.deadlines cimport Deadlines
from kproxy.http.heads cimport HeadParser, RequestHead
from kproxy.http.http1_response cimport ResponseHalf
from kproxy.http.lifecycle cimport Lifecycle

cdef class HTTP1Connection(ResponseHalf):
    cdef object _ahead
    cdef Py_ssize_t _checked
    cdef bint _reading, _rendering
    cdef HeadParser _heads
    cdef Deadlines _waiting

    @cython.locals(checked=Py_ssize_t, head=bytes, end=bytes, rest=bytes)
    cdef _next_requests(self)
    cdef bint _await_rest(self) except -1
    @cython.locals(head=RequestHead, request=Lifecycle, body=ReceivedBody)
    cdef _request_head(self, bytes text, bytes rest)
    cdef _refuse(self, error)
    cdef _feed_body(self, bytes data)
    cdef _fed(self, ReceivedBody body, bytes unused)
    cdef _read(self, bint wanted)
    @cython.locals(body=ReceivedBody, unread=bint)
    cdef _request_done(self, Lifecycle request)
    cdef _close(self, bint linger)
    @cython.locals(request=Lifecycle, body=ReceivedBody)
    cdef _client_left(self)

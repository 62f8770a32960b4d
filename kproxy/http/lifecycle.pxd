cimport cython

cdef class Lifecycle:
    cdef public object body, channel, client, code_message, defaultContentType, host, producer
    cdef public object site
    cdef public dict fields, notes
    cdef public bytes clientproto, method, path, query, upgrade, uri
    cdef public int code, finished, startedWriting
    cdef public long long began, sentLength, took
    cdef public bint response_begun, _disconnected, _inFakeHead, _replaced
    cdef public object _sink
    cdef object _pull, _request_headers, _response_headers
    cdef dict _response_fields
    cdef list _callbacks, _cookies, _trailers

    cpdef dict answered(self)
    cpdef answer_with(self, dict fields)
    cdef _begin(self)
    cpdef bint begun(self)
    cpdef ended(self, failure)
    cpdef on_finish(self, callback)

cpdef tell(list callbacks, request, failure)
@cython.locals(own=Lifecycle)
cpdef dict request_fields(request)
@cython.locals(own=Lifecycle)
cpdef dict response_fields(request)
@cython.locals(own=Lifecycle)
cpdef answer_with(request, dict fields)
cpdef lend(sink, data)

cimport cython
from kproxy.http.lifecycle cimport request_fields, response_fields
from kproxy.streaming cimport streaming

cdef class _Quoted:
    cdef dict _texts

    cdef str value(self, bytes value)
    cdef str note(self, str note)
    cdef str _add(self, key, str text, Py_ssize_t length)

cdef class _Lines:
    cdef public object default, write
    cdef _Quoted quoted
    cdef public dict services
    cdef object _now
    cdef double _second
    cdef str _second_text

    @cython.locals(now=double, micros=int)
    cdef str time(self)

cdef class _Seen:
    cdef _Lines _lines
    cdef dict _fields
    cdef bytes _path, _query
    cdef long long _length
    cdef bint _secure

    @cython.locals(lines=_Lines, quoted=_Quoted, came=dict, answered=dict, notes=dict, field=tuple,
                   duration="long long", size="long long", status=int, port=int, client_port=int,
                   query=bytes, request_id=bytes, service=str, remote=str, shown=str, left=bint)
    cpdef ended(self, request, failure)

cimport cython
from kproxy.http.headers cimport FieldCache

cdef class RequestHead:
    cdef readonly bytes method, target, version, host, upgrade
    cdef readonly dict fields
    cdef readonly long long length
    cdef readonly bint keep_alive, expects_continue

cdef class ResponseHead:
    cdef readonly int code
    cdef readonly bytes reason, upgrade
    cdef readonly dict fields
    cdef readonly long long length
    cdef readonly bint keep_alive

cpdef framing(dict fields, bytes version)
cdef tuple _connection(dict fields, int marks, bint keep_alive)

cdef dict _VERSIONS

cdef class HeadParser:
    cdef readonly FieldCache _lines
    cdef readonly dict _statuses
    cdef readonly set _hosts

    @cython.locals(fields=dict, known=dict, line=bytes, entry=tuple, field=tuple, old=tuple,
                   index=Py_ssize_t, marks=int, mark=int)
    cdef tuple _fields(self, list lines)
    cdef _check_host(self, bytes host)
    @cython.locals(lines=list, line=bytes, parts=list, method=bytes, target=bytes, version=bytes, fields=dict, marks=int)
    cpdef RequestHead request(self, bytes head)
    @cython.locals(field=tuple)
    cdef bytes _host(self, dict fields, int minor)
    @cython.locals(lines=list, status=tuple, version=bytes, fields=dict, marks=int, code=int)
    cpdef ResponseHead response(self, bytes head, bytes method)
    cdef tuple _status(self, bytes line)

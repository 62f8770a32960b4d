from kproxy.http.http1 cimport HTTP1Connection

cdef class PlainRefusal(HTTP1Connection):
    pass

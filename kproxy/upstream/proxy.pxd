cimport cython
from kproxy.http.lifecycle cimport answer_with, lend, request_fields
from kproxy.streaming cimport streaming
from kproxy.http.deadlines cimport Deadlines
from kproxy.http.heads cimport ResponseHead
from kproxy.upstream.connection cimport UpstreamConnection
from kproxy.upstream.pool cimport TargetPool

cdef class Exchange:
    cdef public bint sent
    cdef object _leaf, _request, _give_up
    cdef Deadlines _answers
    cdef readonly TargetPool pool
    cdef UpstreamConnection _connection
    cdef tuple _ended, _failed_pools
    cdef bint _body_started, _chunked, _done, _producing, _repeated

    cpdef start(self)
    cdef _to_target(self, TargetPool pool, bint fresh=*)
    cpdef _send(self, UpstreamConnection connection)
    cdef _take_head(self, ResponseHead head)
    cdef bint _may_repeat(self) except -1
    cdef _drop(self)
    cdef _move_to(self, TargetPool pool)
    cdef TargetPool _pick_other(self, tuple but=*)

@cython.locals(fields=dict, lines=list, named=bytes, extra=bytes, skip=tuple, field=tuple)
cpdef bytes head_for(request, bytes address)

from kproxy.http.lifecycle cimport Lifecycle

cpdef streaming(request)

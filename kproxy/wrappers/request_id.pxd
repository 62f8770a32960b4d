from kproxy.http.lifecycle cimport request_fields

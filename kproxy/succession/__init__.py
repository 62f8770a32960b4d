"""One control process takes the place of another: the same process, another program.

``kproxy restart --all`` runs what is installed now in the process that runs already (``exec``), so
that whoever supervises it notices nothing. What the old program has open stays open; what is what, it
leaves in a `Legacy` (`legacy`). Nothing is lost on the way:

- Listening sockets are handed on, so that whoever connects meanwhile waits in their backlog.
- The workers go on serving. They are handed on, too, until fresh ones have taken over.
- Before that, the new program shows in a process of its own that it comes up: it reads the
  configuration, the state and the plug-ins, and has a worker understand what is to be served
  (`rehearsal`). If it does not, everything goes on as it was.
"""

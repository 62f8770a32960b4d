"""The ``kproxy`` command: `main` is its frame, each group of commands a module of its own."""

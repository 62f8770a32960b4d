"""The control plane: what should run. It never touches a client's bytes."""

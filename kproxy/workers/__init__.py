"""The data plane in processes of its own: one control process, and as many workers as there are CPUs.

The control process binds the sockets and holds what should be served; it never accepts a connection.
Each worker (`worker`) holds a whole data plane, and accepts from the sockets that it was given. What
the control plane tells its data plane, `Workers` (`pool`) tells all of them, over one `Channel` each.
"""

"""The wrappers that come with kproxy: one concern, one file each."""

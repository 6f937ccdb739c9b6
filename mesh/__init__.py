"""The mesh library: typed services and fan-out between processes, over ZeroMQ, on one gevent loop per process.

It knows nothing of users, groups or messages; any gevent service can be built on it (`examples/`).
Nothing is imported here, so that an entry point can patch the standard library first.
"""

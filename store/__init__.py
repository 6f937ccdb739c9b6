"""What is kept, and how: the hot store in Redis (one Lua script beside each function that needs to be atomic).

Functions take and give plain values. Hot paths are hub-level: they take a completion and never block; what is not hot
may be called from a greenlet with `Redis.ask`. Nothing here knows of packs, nodes or connections.
"""

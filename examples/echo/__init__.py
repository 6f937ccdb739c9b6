"""A service built on the mesh library alone, without any messaging: see `topology.toml` beside this file.

    python -m mesh up examples/echo/topology.toml &
    python -m mesh call caller.ask hello --topology examples/echo/topology.toml
"""

"""The routes of the HTTP API, by what they are about. Thin: validation is in the signatures, every rule in the nodes
that these call. `acting.py` is how a request becomes the act of a user, `wire.py` what is said.
"""

"""Commands of `imesh` that know of users and messages; `mesh/cli.py` has the others."""

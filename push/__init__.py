"""Pushing to phones through the services of their vendors. Knows nothing of users, sessions or stores.

    model.py       what is pushed, and what becomes of it
    vendor.py      the base of all vendors; `vendors/` has one file for each
    credential.py  tokens with which we prove who we are: fetched by one greenlet, used by all
    http.py        HTTP/1.1 with pooled connections
    http2.py       HTTP/2 with many requests on few connections, for APNs
    outlet.py      one app at one vendor: calls in their time
    flow.py        how fast, after which pauses, and which device tokens are really dead
    secret.py      secrets from files and the environment
    text.py        texts within the vendors' limits
"""

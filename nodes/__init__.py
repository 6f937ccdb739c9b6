"""The nodes of imesh, one file per kind: who may do what, in which order, and who hears of it.

A node never imports a node. What two of them need lies beside them:
    contracts.py     what they call on each other
    packs.py         how client packs reach a node's handlers and how they are answered, in one place
    publications.py  what travels on topics
    hot.py           the hot store of a process
"""

"""Cold storage in SQL: SQLite or MySQL (MariaDB), through the same models.

    url.py          where it is: `[store] archive`
    database.py     connections of a process, and the threads that they block
    models.py       what the tables hold
    migrations.py   how they came to be, numbered
    messages.py     messages: written in batches below the ORM, read in pages
    search.py       the index of words, and what is found by it
    unindexed.py    messages that this index lacks
    poison.py       rows of the log that cannot be written

Only what runs in a thread touches a connection; `Archive.run` takes a function there and blocks its greenlet.
"""

"""Cold storage in SQL: SQLite or MySQL (MariaDB), through the same models.

    url.py          where it is: `[store] archive`
    database.py     connections of a process, and the threads that they block
    models.py       what the tables hold
    migrations.py   how they came to be, numbered
    messages.py     messages: written in batches below the ORM, read in pages
    rollups.py      messages and users per hour and day, counted with each batch
    statistics.py   what the rollups say, and what processes count of their own
    things.py       what is archived beside messages
    sessions.py     what a rebuild reads of all sessions
    search.py       the index of words, and what is found by it
    unindexed.py    messages that this index lacks
    poison.py       rows of the log that cannot be written

Only what runs in a thread touches a connection; `Archive.run` takes a function there and blocks its greenlet.
"""

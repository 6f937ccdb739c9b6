"""Who is whose friend, who has blocked whom, who asks whom.

A relation of two users lies in three shards: each one's own (the lists), and that of their session (what a message is
checked against). No script may touch two of them, so:

    1. `RELATE_OWN`, in the shard of whoever makes the change: decide, whole or not at all, write his own lists and, in
       the same step, a *note* of what the other shards lack. From here on the change happens.
    2. `RELATE_PAIR`, in the shard of the session, then `RELATE_OTHER`, in the shard of the other user.
    3. take the note away.

When a process dies in between, the note stays and `repair` finishes the change, on any node, seconds later; so does a
repeat of the request. Every step may run again, in any order and beside others: a friendship has a version, the highest
one counts in each of the three places, and it grows with every change. When step 2 finds that the pair has a higher
version that says otherwise, somebody else's change came between: ours is decided again, above it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mesh.loop import wait_for
from packs_free import single_session
from store.keys import Keys
from store.redis import Call, Redis
from store.scripts import FRIENDS, RELATE_OTHER, RELATE_OWN, RELATE_PAIR

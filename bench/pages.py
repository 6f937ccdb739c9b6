"""Pages of history: many readers, each of a long session of his own, asking for one page after the other."""

from __future__ import annotations

import os
import time

from bench import workloads
from bench.dialects.imesh import answer_of, page_in, request_of
from bench.measure import Figures
from bench.running import Mesh
from packs import structs as s
from packs import table as t
from packs.ids import single_session

READERS, MESSAGES, PAGE = 16, 400, 100
TURNS = 5
"""How often each reads his whole session."""


HOT = 50
"""Messages of a session that Redis holds where pages come from the archive."""
PATIENCE_SECONDS, PAUSE = 60.0, 0.2
TRIM_SECONDS = 14.0
"""So long after a message the window of its session has let go of it for certain (`store/window.lua`)."""


def read(mesh: Mesh, *, archived: bool = False) -> Figures:
    """CPU µs by message (`us`) and by page (`page_us`), of pages that Redis holds, or all but the newest `HOT` messages
    of which the archive holds (`archived`: the mesh must be set so)."""
    users = workloads.users(READERS)
    writers, sent = workloads.write(mesh, users, MESSAGES)
    sessions = [single_session(writers[user], user) for user in users]
    peers = mesh.dialect.connect(mesh.address(), users)
    if archived:
        _wait_archived(mesh)
    wrong = 0
    clock = mesh.clock(generator=os.getpid())
    for _ in range(TURNS):
        newest = [0] * READERS
        for start in range(MESSAGES, 0, -PAGE):
            for peer, session, seq in zip(peers, sessions, newest, strict=True):
                request = s.HistoryMsgPullReq(session_id=session, seq_id=seq, count=PAGE)
                request_of(peer.sock, t.HISTORY_MSG_PULL, request)
            for position, peer in enumerate(peers):
                page = page_in(answer_of(peer.sock))
                wrong += [message.content for message in page[::-1]] != sent[peer.user][start - PAGE : start]
                newest[position] = page[-1].prev_seq_id
    figures = workloads.figures_of(clock, TURNS * READERS * MESSAGES)
    for peer in peers:
        peer.sock.close()
    return {**figures, "page_us": figures["us"] * PAGE, "wrong": wrong}


def _wait_archived(mesh: Mesh) -> None:
    """Until the archive has it all, and Redis no more than it is to hold."""
    limit = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < limit and mesh.is_behind():
        time.sleep(PAUSE)
    time.sleep(TRIM_SECONDS)

"""Pages of history: many readers, each of a long session of his own, asking for one page after the other."""

from __future__ import annotations

import os

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


def hot(mesh: Mesh) -> Figures:
    """Pages that Redis holds: CPU µs by message (`us`) and by page (`page_us`)."""
    users = workloads.users(READERS)
    writers, sent = workloads.write(mesh, users, MESSAGES)
    sessions = [single_session(writers[user], user) for user in users]
    peers = mesh.dialect.connect(mesh.address(), users)
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

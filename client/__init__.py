"""The Python SDK: for programs with plain threads, and unchanged under gevent's monkey patching.

    from client.client import Client

    with Client("127.0.0.1:7100", "alice") as alice:
        sent = alice.send("bob", "hello")                  # waits until it is stored, across reconnects
        print(sent.session_id, sent.seq_id)
        for message in alice.messages(timeout=1.0):        # each exactly once, in order per session
            print(message.sender, message.content)
        for old in alice.history("bob", count=20):
            print(old.timestamp, old.content)
"""

"""What clients and nodes say to each other: pack types, payloads, codes, codecs and the connection state machine.

Bytes and values in, bytes and values out: no socket, no clock, no greenlet is touched here, so the broker and the SDK
share every line. This package imports nothing of ours; `docs/protocol.md` is its contract with the outside.

    codes, flags, enums, ids    the vocabulary
    structs, table              payloads, and the one table of pack types
    pack, codec, message        bytes <-> packs <-> payloads, and the spliced numbers of stored messages
    frames, connection          bytes of a connection <-> packs, server and client role
"""

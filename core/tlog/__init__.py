"""The tamper-evident log of results: a Merkle tree in a bucket.

The tree follows RFC 6962; the stored objects follow the C2SP specifications tlog-tiles,
tlog-checkpoint and signed-note, so that other tools can read them. Format: docs/log.md.
"""

"""The tamper-evident log of results: a Merkle tree in a bucket.

The log follows RFC 6962 for the tree and the C2SP specifications tlog-tiles, tlog-checkpoint and
signed-note for what is stored, so that other tools can read it. Format: docs/log.md.
"""

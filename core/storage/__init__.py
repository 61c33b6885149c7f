"""Buckets: the `Store` port and its implementations for folders and for Alibaba Cloud OSS.

`port` states what a store guarantees, above all `put_once`, the write that only one of several
writers wins. `local` keeps that promise in a folder and `oss` in a bucket; one contract test runs
against both (tests/storage/test_contract.py). `object_keys` holds the rules for keys.
"""

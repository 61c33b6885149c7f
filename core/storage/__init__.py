"""Buckets: the `Store` port and its implementations for folders and for Alibaba Cloud OSS.

`port` states what a store guarantees, above all `put_once`: of several writers of a key, exactly
one succeeds. `local` implements it in a folder and `oss` in a bucket; the same contract tests run
against both (tests/storage/test_contract.py). `object_keys` defines every key.
"""

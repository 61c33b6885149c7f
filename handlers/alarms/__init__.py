"""The function that receives alarms of CloudMonitor and acts on them (docs/operations.md).

It runs on a built-in Python of the platform, which starts in a fraction of the five seconds that
CloudMonitor waits, so it imports nothing but the standard library; `cloud/pack_alarms.py` puts its
files together.
"""

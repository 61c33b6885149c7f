"""The command `voicedrop`.

`app.py` declares the commands and their options. What a command does is in a module of its own,
imported when the command runs, so that `--help` stays fast.
"""

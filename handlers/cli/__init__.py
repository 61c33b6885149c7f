"""The command `voicedrop`: one module a command."""

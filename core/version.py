"""The version of this program, as results name it. pyproject.toml reads it from here."""

VERSION = "0.1.0"

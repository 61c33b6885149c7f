"""The embedded default engine: Kokoro-82M, adapted to the reference recording."""

from core.voice.kokoro.voice import KokoroVoice

__all__ = ["KokoroVoice"]

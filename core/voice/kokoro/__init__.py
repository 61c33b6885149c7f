"""The embedded default voice: Kokoro-82M, moved toward the reference."""

from core.voice.kokoro.voice import KokoroVoice

__all__ = ["KokoroVoice"]

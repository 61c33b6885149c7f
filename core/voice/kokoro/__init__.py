"""The embedded default engine: Kokoro-82M, adapted to the reference recording."""

from core.voice.kokoro.voice import FINGERPRINT, KokoroVoice

__all__ = ["FINGERPRINT", "KokoroVoice"]

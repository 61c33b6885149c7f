"""Turn a manifest and a reference recording into watermarked, sealed speech."""

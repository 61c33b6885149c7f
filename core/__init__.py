"""One job: reference voice and texts in, watermarked and sealed speech out."""

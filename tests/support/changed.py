"""Data with one change, which is certain: a fixed byte could be the byte that is there."""


def change_last_byte(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])

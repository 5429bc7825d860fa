"""Random damage to a file."""

from __future__ import annotations

import random

# Numbers at the edges of valid ranges, and tokens that formats give a meaning.
TOKENS = [
    *(n.to_bytes(size, "little") for size in (1, 2, 4, 8) for n in (0, 1, 2 ** (8 * size) - 1)),
    *((2 ** (8 * size - 1) - 1).to_bytes(size, "little") for size in (2, 4, 8)),
    *(b"-1", b"0", b"1e999", b"nan", b"inf", b"NaN", b"99999999999999999999", b"1.5", b"null"),
    *(b"\t", b"\n", b"\r", b",", b'"', b"\0", b"\xff", b"\xef\xbb\xbf", b"[" * 2000, b"{", b"}"),
    *(b"!!python/object/apply:os.system ['true']", b"cos\nsystem\n", b"\x93", b"R", b"b", b"."),
]


def mutate(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Return a copy with one to four damages; ``other`` is a file of the same kind to copy from."""
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        start = rng.randint(0, len(damaged))
        stop = min(len(damaged), start + rng.choice((1, 1, 2, 4, 8, 64)))
        match rng.randrange(7):
            case 0 if damaged:  # flip a bit
                damaged[start % len(damaged)] ^= 1 << rng.randrange(8)
            case 1:  # write over
                damaged[start:stop] = rng.randbytes(stop - start)
            case 2:  # leave out
                del damaged[start:stop]
            case 3:  # repeat
                damaged[start:start] = damaged[start:stop] * rng.choice((1, 2, 50))
            case 4:  # cut off
                del damaged[rng.choice((start, len(damaged) - min(8, len(damaged)))) :]
            case 5:  # borrow
                begin = rng.randint(0, len(other))
                damaged[start:stop] = other[begin : begin + rng.choice((1, 8, 64, 512))]
            case _:  # put a token in, or over what is there
                token = rng.choice(TOKENS)
                damaged[start : rng.choice((start, start + len(token)))] = token
    return bytes(damaged)

"""Loads mutated model files and JSON texts: `python -m tests.fuzz_model_files FIRST COUNT` prints what happened.

Only FormatError may come out, and what loads must score. A process of its own, so that its peak memory means something.
"""

import json
import random
import re
import resource
import struct
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

import fastgmm
from fastgmm.exceptions import FormatError
from tests.data.models import write

NUMBERS = [0.0, -0.0, -1.0, 2.0, 1e-300, 5e-324, 1e150, 1e308, -1e308, np.nan, np.inf, -np.inf]
TOKENS = [
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "NaN",
    "1" * 5000,
    "[]",
    "{}",
    '""',
    '"x"',
    "[" * 50_000,
    "9" * 30,
    '"/etc/passwd"',
]


def mutated(content, body, rng):
    """Change bytes, numbers of the body, or tokens of the header; cut out, repeat or append."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        kind = rng.choice([0, 1, 1, 1, 2, 3, 4, 5, 5, 5, 5])
        place = rng.randrange(len(content))
        if kind == 0:
            content[place] = rng.randrange(256)
        elif kind == 1 and body < len(content) - 8:
            place = body + 8 * rng.randrange((len(content) - body) // 8)
            content[place : place + 8] = struct.pack("<d", rng.choice(NUMBERS))
        elif kind == 2:
            content = content[:place] if rng.random() < 0.5 else content + content[:place]
        elif kind == 3:
            del content[place : place + rng.randint(1, 40)]
        elif kind == 4:
            content[:8] = struct.pack("<Q", rng.choice([0, 2**20, 2**27, 2**40, 2**64 - 1, rng.randrange(4000)]))
        else:
            content = bytearray(swapped(bytes(content), rng, 8, min(body, len(content))))
        if not content:
            break
    return bytes(content)


def swapped(content, rng, first, last):
    """Replace a JSON token, and mend the length that stands before the header."""
    spans = [m.span() for m in re.finditer(rb"-?\d[\d.e+-]*|\\?\"[^\"\\]*\\?\"", content[first:last])]
    if not spans:
        return content
    start, stop = rng.choice(spans)
    token = rng.choice(TOKENS).encode()
    if content[first + start : first + start + 1] == b"\\":
        token = token.replace(b'"', b'\\"')
    text = content[first : first + start] + token + content[first + stop : last]
    return (struct.pack("<Q", len(text)) if first else b"") + text + content[last:]


def main(first, count):
    files = sorted(write.FOLDER.glob("*/*.safetensors"))
    texts = {path: json.dumps(fastgmm.load(path).to_dict()).encode() for path in files}
    kinds = {path: fastgmm.load(path) for path in files}
    for model in kinds.values():
        write.scores(model)  # compiles
    found = {"refused": 0, "loaded": 0, "unscored": 0}
    examples = {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.safetensors"
        for number in range(first, first + count):
            rng = random.Random(number)
            path = rng.choice(files)
            try:
                if number % 4:
                    content = path.read_bytes()
                    target.write_bytes(mutated(content, 8 + struct.unpack("<Q", content[:8])[0], rng))
                    model = fastgmm.load(target)
                else:
                    text = swapped(texts[path], rng, 0, len(texts[path]))
                    if rng.random() < 0.5:
                        place = rng.randrange(len(text))
                        text = text[:place] + bytes([rng.randrange(256)]) + text[place + 1 :]
                    model = type(kinds[path]).from_json(text.decode(errors="surrogateescape"))
            except FormatError:
                found["refused"] += 1
                continue
            except Exception as error:
                raise AssertionError(f"mutation {number} of {path}") from error
            found["loaded"] += 1
            try:
                if np.isnan(write.scores(model)).any():
                    raise AssertionError("NaN")
            except Exception as error:
                found["unscored"] += 1
                examples.setdefault(repr(error)[:80], f"{number} {path.name}")
    found["peak_mib"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps(found | {"examples": examples}))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(int(sys.argv[1]), int(sys.argv[2]))

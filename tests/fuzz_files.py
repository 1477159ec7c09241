"""Reads mutated tables and pictures: `python -m tests.fuzz_files KIND FIRST COUNT` prints what happened.

Only documented errors may come out, each naming the file. It has a process of its own, for its peak memory to mean
something.
"""

import gzip
import json
import random
import resource
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet

import fastgmm
from fastgmm.exceptions import SourceError
from fastgmm.images import read_images

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(200, 3))
PICTURE = RNG.integers(0, 256, (2, 24, 17, 3), np.uint8)
INSERTS = [
    b"",
    b"\0",
    b"\xff" * 9,
    b'"',
    b"\n",
    b",",
    b";;",
    b"1e999",
    b"9" * 400,
    b"[" * 400,
    b"{",
    b"\x80",
    b"-1",
    b"\r",
]


def write_npy(path):
    np.save(path, ROWS)


def write_csv(path):
    lines = [
        "# of a spreadsheet",
        "a;b;c",
        *(";".join(f"{v:.3f}".replace(".", ",") for v in row) for row in ROWS[:60]),
        "TRUE;;?",
    ]
    path.write_text("\n".join(lines))


def write_gzip(path):
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 300))


def write_parquet(path):
    table = pa.table({"a": ROWS[:, 0], "b": ROWS[:, 1].astype(np.float32), "c": ["x", None] * 100, "d": range(200)})
    pa.parquet.write_table(table, path, row_group_size=70)


def write_png(path):
    PIL.Image.fromarray(PICTURE[0]).save(path)


def write_pages(path):
    pages = [PIL.Image.fromarray(page) for page in PICTURE]
    pages[0].save(path, save_all=True, append_images=pages[1:])


def write_images(path):
    np.save(path, PICTURE)


def read_rows(path):
    """Errors are SourceErrors, but for those of the estimators about values."""
    source = fastgmm.open_source(path)
    n_rows = sum(len(block) for _, block in source.chunks())
    assert n_rows == source.n_samples
    kept = fastgmm.open_source(path, on_bad="keep")
    assert kept.n_samples >= n_rows


def read_pictures(path):
    images, _, names = read_images(path)
    assert len(images) == len(names) or path.suffix == ".npy"


KINDS = {  # how to write one, how to read it, and what may come out
    "rows.npy": (write_npy, read_rows, SourceError),
    "rows.csv": (write_csv, read_rows, SourceError),
    "rows.csv.gz": (write_gzip, read_rows, SourceError),
    "rows.parquet": (write_parquet, read_rows, SourceError),
    "image.png": (write_png, read_pictures, (ValueError, TypeError, OSError)),
    "image.jpg": (write_png, read_pictures, (ValueError, TypeError, OSError)),
    "image.gif": (write_pages, read_pictures, (ValueError, TypeError, OSError)),
    "image.tif": (write_pages, read_pictures, (ValueError, TypeError, OSError)),
    "images.npy": (write_images, read_pictures, (ValueError, TypeError, OSError)),
}


def mutated(whole, rng):
    """A file with a few of its bytes changed, cut off, repeated or moved."""
    data = bytearray(whole)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 30])):
        place = rng.randrange(len(data) + 1) if rng.random() < 0.6 else rng.randrange(min(200, len(data)) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            data[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            data[place : place + rng.choice([0, 1, 4])] = rng.choice(INSERTS)
        elif kind == 2 and rng.random() < 0.3:
            del data[place:]
        elif kind == 3:
            data[place : place + 4] = rng.choice([b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x80"])
        else:
            size = rng.randrange(1, 50)
            data[place:place] = data[place : place + size] * rng.choice([1, 1, 40])
        if not data:
            break
    return bytes(data)


def main(name, first, count):
    """Print as JSON how many were read and refused, other errors, and how far memory rose, in MiB."""
    write, read, errors = KINDS[name]
    found = {"read": 0, "refused": 0, "wrong": []}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / name
        write(path)
        whole = path.read_bytes()
        read(path)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for seed in range(first, first + count):
            path.write_bytes(mutated(whole, random.Random(seed)))
            try:
                read(path)
                found["read"] += 1
            except errors as error:
                found["refused"] += 1
                if path.stem not in str(error) or len(str(error)) > 1000 + 2 * len(str(path)):
                    found["wrong"].append((seed, f"{type(error).__name__}: {str(error)[:200]}"))
            except Exception as error:
                found["wrong"].append((seed, f"{type(error).__name__}: {str(error)[:200]}"))
        found["mib"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

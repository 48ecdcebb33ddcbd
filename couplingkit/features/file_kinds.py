"""A file that is no checkpoint in, what it is and what to do with it out."""

from __future__ import annotations

from pathlib import Path

__all__ = ["other_kind"]

UNPACK = "unpack it and give the checkpoint in it"
# How a file begins -> what it is, and what to do.
BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "a pointer of Git LFS, and the weights are elsewhere; run `git lfs pull` in its clone",
    ),
    (b"\x1f\x8b", f"a gzip archive; {UNPACK}"),
    (b"BZh", f"a bzip2 archive; {UNPACK}"),
    (b"\xfd7zXZ", f"an xz archive; {UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"a zstd archive; {UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7-Zip archive; {UNPACK}"),
    (b"Rar!", f"a RAR archive; {UNPACK}"),
    (b"\x89HDF\r\n\x1a\n", "HDF5, as Keras saves; give a PyTorch file of the same weights"),
    (b"\x93NUMPY", "one NumPy array; give a file of all weights with their names"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"%PDF", "a PDF"),
    (b"GGUF", "GGUF, which holds language models"),
    (b"\x08\x03\x12", "ONNX, a program with weights; give the PyTorch file that it was exported from"),
)
ENDINGS = {
    ".onnx": "ONNX, a program with weights; give the PyTorch file that it was exported from",
    ".h5": "Keras' format; give a PyTorch file of the same weights",
    ".msgpack": "Flax's format; give a PyTorch file of the same weights",
    ".pb": "TensorFlow's format; give a PyTorch file of the same weights",
    ".tflite": "TensorFlow's format; give a PyTorch file of the same weights",
    ".mlmodel": "Core ML's format; give the PyTorch file that it was exported from",
    ".pdparams": "PaddlePaddle's format; give a PyTorch file of the same weights",
    ".orbax": "JAX's format; give a PyTorch file of the same weights",
}
TAR_MARK = slice(257, 262)


def other_kind(path: Path) -> str | None:
    """Return what a file is that no reader of checkpoints takes, as the rest of a sentence; None where it is not known.

    The file is whole as far as anybody can tell, so that nobody should be told that it was cut short.
    """
    with path.open("rb") as stream:
        beginning = stream.read(512)
    for mark, kind in BEGINNINGS:
        if beginning.startswith(mark):
            return kind
    if beginning[TAR_MARK] == b"ustar":
        return f"a tar archive; {UNPACK}"
    text = beginning.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, where a download ended at a login, a licence or a warning; download the file itself"
    if text.startswith((b"{", b"[")) and path.suffix != ".pkl":
        return "JSON and holds no weights; of a model that is saved in several files, give the folder"
    return ENDINGS.get(path.suffix.lower())

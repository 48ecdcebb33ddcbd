"""A set's objects and pictures in, its manifest and the hashes that tell whether somebody else's are the same out."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tqdm import tqdm

from ..data.coco import CocoIndex
from ..data.cutouts import CutoutStore
from ..errors import DataError
from .drawing import bare_manifest
from .fingerprint import joined_digest, keep_digests, kept_digests
from .manifest import Manifest, object_check
from .spec import ObjectPair, ProbeSpec

__all__ = ["CheckedPictures"]


class CheckedPictures(ABC):
    """What a probe set promises of its pictures, and how that is checked; the pictures are the set's own business."""

    spec: ProbeSpec
    pairs: tuple[ObjectPair, ...]
    index: CocoIndex
    store: CutoutStore
    seed: int
    name: str
    promised: str | None
    drawn_gap: int
    pack_bytes: int
    _digests: dict[int, bytes]
    _manifest: Manifest | None

    def manifest(self) -> Manifest:
        """Return which objects and which pairs these are, the rules that chose them, and the fingerprint."""
        return replace(self.checked(), name=self.name, fingerprint=self.fingerprint())

    def checked(self) -> Manifest:
        """Return the manifest without a fingerprint: no photo is read for it."""
        if self._manifest is None:
            checks = {key: object_check(self.store.record(key)) for pair in self.pairs for key in pair.members()}
            self._manifest = bare_manifest(
                self.name, self.index, self.pairs, checks, self.spec, seed=self.seed, drawn_gap=self.drawn_gap
            )
        return self._manifest

    def photos_stamp(self) -> str:
        """Return a hash of the sizes and times of the photos' files, which changes when one is written anew."""
        stamps = [(name, *self.store.photos.stamp(name)) for name in self._photos()]
        return hashlib.sha256(repr(stamps).encode()).hexdigest()

    def _photos(self) -> list[str]:
        ids = {self.index.image_of(key) for pair in self.pairs for key in pair.members()}
        ids |= {pair.backdrop for pair in self.pairs if pair.backdrop is not None}
        return sorted(self.index.images[image_id].file_name for image_id in ids)

    def fingerprint(self, *, progress: bool = False) -> str:
        """Return the SHA-256 over the `digests` of all probes, in order: equal ones mean equal pictures.

        All photos were decoded for it, so that a broken one shows before the first forward pass. It is computed once.

        Args:
            progress: whether to show a bar.

        Raises:
            DataError: a photo is broken, or these are not the pictures that the manifest promises.
        """
        self.recall_digests()
        known = len(self._digests) == len(self)
        found = joined_digest(self.digests(range(len(self)), progress=progress))
        if not known:
            self.keep_digests()
        if self.promised not in (None, found):
            raise DataError(
                f"the probe set {self.name} comes out as other pictures here than its manifest promises (fingerprint "
                f"{found[:12]}, not {str(self.promised)[:12]}): `images` are not the photos that it was made with, or "
                "were encoded anew."
            )
        return found

    def digests(self, numbers: Iterable[int], *, progress: bool = False) -> list[bytes]:
        """Return the SHA-256 of some probes as they are drawn (8-bit images and masks, gray canvas, 224 px).

        Where the canvas is `image`, the photo behind the objects is part of it.
        """
        wanted = list(numbers)
        lacking = [number for number in wanted if number not in self._digests]
        if lacking:
            self.prepare(progress=progress)
        for number in tqdm(lacking, desc="checking probes", unit="probe", disable=not (progress and lacking)):
            self._digests[number] = self._draw_digest(number)
        return [self._digests[number] for number in wanted]

    def know_digests(self, digests: Sequence[bytes]) -> None:
        """Take over the digests of all probes, which other processes worked out."""
        self._digests = dict(enumerate(digests))

    def recall_digests(self) -> list[bytes] | None:
        """Take over and return the digests that an earlier run kept of these pictures; None where none did."""
        if len(self._digests) < len(self):
            found = kept_digests(self._digests_key(), len(self)) if self.pack_bytes else None
            if found is None:
                return None
            self.know_digests(found)
        return [self._digests[number] for number in range(len(self))]

    def keep_digests(self) -> None:
        """Keep the digests of all probes for the next run."""
        if self.pack_bytes:
            keep_digests(self._digests_key(), [self._digests[number] for number in range(len(self))])

    def _digests_key(self) -> str:
        return hashlib.sha256(repr(self._digest_key_parts()).encode()).hexdigest()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def prepare(self, *, progress: bool = False) -> bool:
        """Let all sprites be at hand; see `ProbeSet.prepare`."""

    @abstractmethod
    def _digest_key_parts(self) -> tuple[str, str]:
        """Return keys of the sprites and of the pairs, which the digests depend on."""

    @abstractmethod
    def _draw_digest(self, number: int) -> bytes:
        """Return the digest of one probe."""

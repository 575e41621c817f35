"""Data sets for TensorFlow Datasets, without TensorFlow: one example for each frame, as an encoded image.

So one frame can be read without the others. The metadata says which frames make up each clip:
`{"clips": {split: [[name, first example, frames, height, width], ...]}, "fingerprints": {name: "..."},
"digest": "..."}`.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core import naming, writer
from tensorflow_datasets.core.file_adapters import FileFormat

from ldip_jax.data.folders import SourceClip, Splits
from ldip_jax.data.prepared import FrameEncoder
from ldip_jax.errors import InputError

# A shard holds whole clips, of about this many bytes in all.
_SHARD_BYTES = 256 * 2**20


class Shard(NamedTuple):
    """Clips that are written to one file."""

    clips: list[SourceClip]

    @property
    def count(self) -> int:
        return sum(clip.count for clip in self.clips)

    def __call__(self) -> Iterator[tuple[int, None]]:
        """One item for each example, so that tfds can count them; `_Writer` makes the examples."""
        return ((number, None) for number in range(self.count))


def shards(clips: list[SourceClip]) -> list[Shard]:
    """Distribute clips over shards, in order."""
    result, remaining = [Shard([])], _SHARD_BYTES
    for clip in clips:
        # A PNG takes about half as many bytes as its pixels.
        pixels = clip.count * clip.size[0] * clip.size[1]
        size = pixels * 3 // 2 if clip.is_video else sum(file.stat().st_size for file in clip.files)
        if result[-1].clips and size > remaining:
            result.append(Shard([]))
            remaining = _SHARD_BYTES
        result[-1].clips.append(clip)
        remaining -= size
    return result


class ClipsBuilder(tfds.core.ShardBasedBuilder):
    """Clips of frames.

    Shards are finished one by one in a separate folder and linked into the data set, so that an interrupted
    run is resumed at the first missing shard.
    """

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded. Looking for a list of checksums would need another package.
    url_infos: ClassVar[dict[str, Any]] = {}

    def __init__(self, *, splits: Splits, staging: Path, advance: Callable[[], None], **kwargs: Any):
        """
        Args:
            splits: the clips of each split.
            staging: a folder for finished shards, on the file system of the result.
            advance: called after each frame, including those that an earlier run finished.
        """
        self._clips, self.staging, self.advance = splits, staging, advance
        super().__init__(file_format=FileFormat.ARRAY_RECORD, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        table, fingerprints = {}, {}
        for split, clips in self._clips.items():
            fingerprints.update({c.name: c.fingerprint for c in clips if c.fingerprint is not None})
            first, table[split] = 0, []
            for clip in clips:
                table[split].append([clip.name, first, clip.count, *clip.size])
                first += clip.count
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__ or "",
            # Text keeps the bytes as they are and needs no decoder.
            features=tfds.features.FeaturesDict({"image": tfds.features.Text()}),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                clips=table, fingerprints=fingerprints, digest=digest(self._clips)
            ),
        )

    def _shard_iterators_per_split(self, dl_manager: Any) -> Mapping[str, list[Shard]]:
        self.shards = {split: shards(clips) for split, clips in self._clips.items() if clips}
        return self.shards

    def _log_download_bytes(self) -> None:
        """Nothing is downloaded, so there is nothing to log."""

    def _log_download_done(self) -> None:
        """See above."""

    def _example_writer(self) -> "_Writer":
        return _Writer(self)


class _Writer(writer.ExampleWriter):
    """Writes shards from their clips, or reuses those that an interrupted run finished."""

    def __init__(self, builder: ClipsBuilder):
        super().__init__(FileFormat.ARRAY_RECORD)
        self._builder = builder
        self._encoder = FrameEncoder()

    def write(self, path: Any, examples: Any) -> None:
        name: Any = naming.FilenameInfo.from_str(path.name)
        shard = self._builder.shards[name.split][name.shard_index]
        staged = self._builder.staging / path.name
        if staged.exists():
            for _ in range(shard.count):
                self._builder.advance()
        else:
            self._stage(shard, staged)
        try:
            os.link(staged, path)
        except OSError:
            # No hard links on this file system.
            shutil.move(staged, path)

    def _stage(self, shard: Shard, staged: Path) -> None:
        part = staged.with_suffix(".part")
        # One record per block, so that a frame is read without its neighbours. Images are already compressed.
        features: Any = self._builder.info.features
        try:
            file = ArrayRecordWriter(os.fspath(part), "group_size:1,uncompressed")
            for clip in shard.clips:
                for image in self._encoder.frames(clip):
                    file.write(features.serialize_example({"image": image}))
                    self._builder.advance()
            file.close()
        except RuntimeError as error:
            # The writer raises this when the disk is full, for example.
            reason = next(iter(str(error).splitlines()), "unknown reason")
            raise InputError(
                f"{part}: cannot be written ({reason}); free some space, then start again"
            ) from error
        os.replace(part, staged)


def digest(splits: Splits) -> str:
    """SHA-256 of a source's state: of its clips, and of the names, sizes and times of all files."""
    result = hashlib.sha256()
    for split, clips in splits.items():
        for clip in clips:
            result.update(f"{split} {clip.name} {clip.first} {clip.count} {clip.size}".encode())
            for file in clip.files:
                state = file.stat()
                result.update(f"{file.name} {state.st_size} {state.st_mtime_ns}".encode())
    return result.hexdigest()


class Reds(ClipsBuilder):
    """REDS: 1280x720, 100 frames a clip; splits train, reds4 (the four test clips) and val (30 clips)."""


class Vimeo90k(ClipsBuilder):
    """Vimeo-90K septuplets: 448x256, 7 frames a clip; splits train and test."""


class Vid4(ClipsBuilder):
    """Vid4: four clips; split test."""


class Udm10(ClipsBuilder):
    """UDM10: ten clips of 32 frames; split test."""


class VideoFolder(ClipsBuilder):
    """Clips of one's own; splits train and heldout."""

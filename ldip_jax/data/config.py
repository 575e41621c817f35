"""The settings `config.data`: which clips are trained on, and how samples are drawn from them."""

from dataclasses import dataclass, field

from ldip_jax.data.damage import InputDamageConfig, ReferenceJitterConfig
from ldip_jax.settings import setting


@dataclass(slots=True)
class DataConfig:
    """`config.data`. By default as in the paper, section 8."""

    dataset: str = setting(
        "reds",
        "a prepared data set (`ldip prepare`); or `synthetic`: scenes of moving layers; or `stills`: camera"
        " moves over the images in `data.data_dir`",
    )
    data_dir: str = setting("", "the `--output` of `ldip prepare`, or the folder of stills", resume=True)
    records: str = setting("", "a folder of records (`ldip records`), which replace the data set")
    validation_records: str = setting("", "a folder of records for validation", resume=True)
    validation_split: str = setting("", "the split of the data set for validation")
    heldout: str = setting(
        "configs/heldout.json",
        "the file that lists the held-out clips; the package's own list is used if it does not exist; empty:"
        " no clip is held out",
        resume=True,
    )
    workers: int = setting(4, "processes that decode frames; 0: a thread does it", minimum=0, resume=True)
    frames: int = setting(24, "frames of C_ref, from which references are chosen", minimum=1)
    clip: int = setting(12, "frames of C_gt, which are trained on; at most `data.frames`", minimum=1)
    crop: int = setting(256, "side of the GT crop, in pixels; 0: what `data.lr_crop` covers", minimum=0)
    lr_crop: int = setting(
        0,
        "side of the LR crop, in pixels; 0: large enough for `data.crop` at every scale",
        minimum=0,
        formerly="lr",
    )
    scale: tuple[float, float] = setting(
        (4.0, 4.0), "HR size divided by LR size; drawn between the two", minimum=1, maximum=8, ordered=True
    )
    augment: bool = setting(True, "flips, turns by 90 degrees, reversed time, random places of crops")
    size: tuple[int, int] = setting(
        (256, 256), "height and width of the frames of `synthetic` and `stills`", minimum=1
    )
    key_frames: int = setting(3, "the most key-frames of a sample; 1 to that many are drawn", minimum=1)
    references: int = setting(5, "the most references of a key-frame; 0: train without references", minimum=0)
    fewest_references: int = setting(1, "the fewest references of a key-frame")
    window: int = setting(256, "side of the part of a reference that is used, in HR pixels", minimum=1)
    jitter: int = setting(
        64, "how far that part may be shifted from the middle of what matches, in HR pixels", minimum=0
    )
    self_references: float = setting(
        0.0,
        "share of samples with all references at LR size, as without reference images; in the other"
        " samples, share of such references",
        minimum=0,
        maximum=1,
    )
    sharp_references: float = setting(
        0.0, "share of references that are not degraded; the paper degrades all", minimum=0, maximum=1
    )
    distractors: float = setting(
        0.0, "share of useless references: of another clip, shifted, black or blurred", minimum=0, maximum=1
    )
    input: InputDamageConfig = field(default_factory=InputDamageConfig)
    reference_jitter: ReferenceJitterConfig = field(default_factory=ReferenceJitterConfig)

    @property
    def lr(self) -> int:
        """The earlier name of `lr_crop`, for config files that use it."""
        return self.lr_crop

    @lr.setter
    def lr(self, value: int) -> None:
        self.lr_crop = value

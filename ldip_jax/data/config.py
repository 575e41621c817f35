"""The settings `config.data`: which clips are trained on, and how samples are drawn from them."""

from dataclasses import dataclass, field

from ldip_jax.data.damage import InputPlan, JitterPlan
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
    workers: int = setting(4, "processes that decode frames; 0: a thread does it", least=0, resume=True)
    frames: int = setting(24, "frames of C_ref, from which references are chosen", least=1)
    clip: int = setting(12, "frames of C_gt, which are trained on; at most `data.frames`", least=1)
    crop: int = setting(256, "side of the GT crop, in pixels; 0: what `data.lr` covers", least=0)
    lr: int = setting(
        0, "side of the LR crop, in pixels; 0: large enough for `data.crop` at every scale", least=0
    )
    scale: tuple[float, float] = setting(
        (4.0, 4.0), "HR size divided by LR size; drawn between the two", least=1, most=8, ordered=True
    )
    augment: bool = setting(True, "flips, turns by 90 degrees, reversed time, random places of crops")
    size: tuple[int, int] = setting(
        (256, 256), "height and width of the frames of `synthetic` and `stills`", least=1
    )
    key_frames: int = setting(3, "the most key-frames of a sample; 1 to that many are drawn", least=1)
    references: int = setting(5, "the most references of a key-frame; 0: train without references", least=0)
    fewest_references: int = setting(1, "the fewest references of a key-frame")
    window: int = setting(256, "side of the part of a reference that is used, in HR pixels", least=1)
    jitter: int = setting(
        64, "how far that part may be shifted from the middle of what matches, in HR pixels", least=0
    )
    self_references: float = setting(
        0.0,
        "share of samples with all references at LR size, as without reference images; in the other"
        " samples, share of such references",
        least=0,
        most=1,
    )
    sharp_references: float = setting(
        0.0, "share of references that are not degraded; the paper degrades all", least=0, most=1
    )
    distractors: float = setting(
        0.0, "share of useless references: of another clip, shifted, black or blurred", least=0, most=1
    )
    input: InputPlan = field(default_factory=InputPlan)
    reference_jitter: JitterPlan = field(default_factory=JitterPlan)

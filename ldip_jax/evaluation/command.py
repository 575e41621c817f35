"""`python eval.py`: flags to a plan, the plan to files and tables."""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldip_jax.cli.main import run_guarded
from ldip_jax.errors import InputError
from ldip_jax.evaluation.flags import build_parser
from ldip_jax.processes import VARIABLES, find_member

if TYPE_CHECKING:
    from ldip_jax.evaluation.models import Networks
    from ldip_jax.evaluation.protocols import Protocol
    from ldip_jax.evaluation.runner import Plan


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `eval.py` with these words; returns the exit code."""
    parser = build_parser()
    parser.set_defaults(run=run)
    return run_guarded("eval.py", parser, argv)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def load_config(text: str) -> Any:
    """`get_config(ARG)` of a plan's file, given as FILE or FILE:ARG.

    Raises:
        InputError: no such file, or one that is no plan.
    """
    name, _, argument = text.partition(":")
    path = Path(name)
    if not path.is_file():
        raise InputError(f"{name}: no such plan; give a file of configs/, or leave --config out")
    spec = importlib.util.spec_from_file_location("plan", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{name}: a plan is a .py file")
    module = importlib.util.module_from_spec(spec)
    # Plans import what they share from `configs`, which lies beside eval.py.
    sys.path.insert(0, str(Path(__file__).parents[2]))
    try:
        spec.loader.exec_module(module)
        return module.get_config(argument)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{name}: needs {error.name} (pip install 'ldip-jax[train]'); or leave --config out"
        ) from None
    except Exception as error:
        raise InputError(f"{text}: cannot be used as a plan ({type(error).__name__}: {error})") from None
    finally:
        sys.path.pop(0)


def run(args: argparse.Namespace) -> int:
    """Evaluates; returns 0, or 2 where clips had to be skipped."""
    from ldip_jax.evaluation.datasets import DATASETS, find_clips
    from ldip_jax.evaluation.results import Results, write_results
    from ldip_jax.evaluation.runner import Evaluation

    if args.shard == "auto":
        # Before JAX looks for devices.
        args.shard = _own_shard()
    dataset = DATASETS[args.dataset]
    protocol = _protocol(args.protocol or dataset.protocol)
    config = load_config(args.config) if args.config else None
    networks = _networks(args, config)
    sources, notes = find_clips(dataset, args.data_dir)
    for note in notes:
        _say(note)
    if args.report_clip is not None and args.report_clip not in {source.name for source in sources}:
        raise InputError(
            f"--report-clip {args.report_clip}: no such clip; there is {sources[0].name}, for one"
        )
    plan = _plan(args, protocol, networks)
    _check_output(plan.output)
    evaluation = Evaluation(plan, sources, _say)
    evaluation.prepare()
    evaluation.run()
    results = Results(plan, evaluation.outcome())
    if not results.scales and results.outcome.absent and not results.outcome.failures:
        absent = ", ".join(results.outcome.absent)
        raise InputError(
            f"--checkpoint {args.checkpoint}: brings no weights for {absent}, and nothing else is asked for"
        )
    if not results.scales:
        raise InputError(f"{args.data_dir}: nothing could be scored")
    settings = _settings(plan, len(sources), notes)
    print(write_results(results, settings, plan.output), end="")
    written = ["results.md", "results.csv", "results.json"]
    if results.outcome.waiting == 0:
        from ldip_jax.evaluation.page import write_page

        write_page(plan.output / "report.html", evaluation, results, settings)
        written.append("report.html")
    print(f"\n{plan.output}: {', '.join(written)}")
    return 2 if results.outcome.failures else 0


def _protocol(name: str) -> "Protocol":
    from ldip_jax.evaluation.protocols import PROTOCOLS

    if name not in PROTOCOLS:
        raise InputError(f"--protocol {name}: no such protocol; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def _networks(args: argparse.Namespace, config: Any) -> "Networks":
    from ldip_jax.evaluation.models import Networks, resolve_checkpoint
    from ldip_jax.inference.references import Rules
    from ldip_jax.matching.choice import check_matcher

    planned = {"backbone": "basicvsr-reds4", "matcher": "gmflow"}
    for name in planned:
        value = getattr(args, name) or getattr(config, name, None)
        planned[name] = str(value or planned[name])
    check_matcher(planned["matcher"])
    rules = Rules(args.self_refs, args.exclude, args.ref_threshold)
    rules.check()
    return Networks(
        backbone=planned["backbone"],
        checkpoint=resolve_checkpoint(args.checkpoint),
        cross=resolve_checkpoint(args.cross) if args.cross else None,
        matcher=planned["matcher"],
        key_stride=args.key_stride,
        rules=rules,
    )


def _plan(args: argparse.Namespace, protocol: "Protocol", networks: "Networks") -> "Plan":
    from ldip_jax.evaluation.datasets import DATASETS
    from ldip_jax.evaluation.lpips import try_lpips
    from ldip_jax.evaluation.measures import MEASURES
    from ldip_jax.evaluation.runner import Plan

    dataset = DATASETS[args.dataset]
    convention = args.measure or protocol.measure or dataset.measure
    if convention not in MEASURES:
        raise InputError(f"--measure {convention}: no such convention; there are {', '.join(MEASURES)}")
    names = [column.name for column in protocol.columns]
    for name in args.columns or ():
        if name not in names:
            raise InputError(f"--columns {name}: {protocol.name} has {', '.join(names)}")
    if args.lr_dir is not None and not args.lr_dir.is_dir():
        raise InputError(f"--lr_dir {args.lr_dir}: no such folder")
    usual = protocol.vid4_scales if dataset.name == "vid4" and protocol.vid4_scales else protocol.scales
    scales = tuple(dict.fromkeys(args.scale or usual))
    for scale in scales:
        # Of frames of any size: whether the scale is one of the protocol's at all.
        protocol.sizes((1024, 1024), scale)
    return Plan(
        dataset=dataset,
        protocol=protocol,
        scales=scales,
        columns=tuple(c for c in protocol.columns if not args.columns or c.name in args.columns),
        convention=convention,
        networks=networks,
        output=args.output or Path("results") / f"{dataset.name}-{protocol.name}",
        lpips=None if args.no_lpips else try_lpips(_say),
        temporal=args.temporal,
        multiple=args.multiple,
        lr_dir=args.lr_dir,
        shown=args.report_clip,
        shard=args.shard,
    )


def _own_shard() -> tuple[int, int]:
    """This process's number among those that its environment tells of, and a GPU of its own.

    They share files alone: one that ends early or dies stops no other.
    """
    member = find_member(os.environ)
    if member is None:
        raise InputError(
            "--shard auto: no other processes are found; start them with srun, set"
            f" {', '.join(VARIABLES)} for each, or give --shard I/N"
        )
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if len(gpus) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[member.local % len(gpus)]
    return member.index, member.count


def _check_output(path: Path) -> None:
    from ldip_jax.media.outputs import check_place

    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file where a folder is to be; choose another --output")
    held = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if held and "units" not in held:
        raise InputError(f"{path}: holds {held[0]} and no results of an evaluation; choose another --output")
    check_place(path)
    (path / "units").mkdir(parents=True, exist_ok=True)


def _settings(plan: "Plan", clips: int, notes: Sequence[str]) -> dict[str, str]:
    from ldip_jax.evaluation.measures import MEASURES

    networks = plan.networks
    settings = {
        "data set": f"{plan.dataset.title}, {clips} clip{'s' * (clips != 1)}"
        + "".join(f"; {note}" for note in notes),
        "protocol": f"{plan.protocol.name}: {plan.protocol.summary}",
        "scored by": f"{plan.convention} ({MEASURES[plan.convention].used_by})",
        "backbone": networks.backbone,
        "LRRF weights": networks.checkpoint,
    }
    if networks.cross:
        settings["weights without ICA"] = networks.cross
    if networks.checkpoint != "none":
        settings["references"] = (
            f"{networks.matcher}, key-frames every {networks.key_stride} frames with"
            f" {networks.rules.self_refs} references, the clip's own more than {networks.rules.exclude}"
            f" frames away, threshold {networks.rules.threshold:g}"
        )
    if plan.lr_dir:
        settings["LR frames"] = str(plan.lr_dir)
    if plan.multiple > 1:
        settings["HR frames"] = f"cut to multiples of {plan.multiple} pixels"
    return settings

"""`ldip weights`: lists, fetches, inspects and converts weights."""

import argparse
import json
import os
import sys
from pathlib import Path

from ldip_jax.errors import InputError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the command to `ldip`."""
    parser = subparsers.add_parser("weights", help="list, fetch, inspect and convert weights")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list", help="list the names that can be fetched, and say what has been fetched"
    )
    listing.set_defaults(run=_list)
    info = actions.add_parser("info", help="show what a file holds, or the weights of a name")
    info.add_argument("what", metavar="NAME|FILE", help="a name of `ldip weights list`, or a file")
    info.set_defaults(run=_info)
    fetch = actions.add_parser("fetch", help="fetch weights by name")
    fetch.add_argument("names", metavar="NAME", nargs="+", help="a name of `ldip weights list`")
    fetch.set_defaults(run=_fetch)
    convert = actions.add_parser("convert", help="convert an official checkpoint to a .safetensors file")
    convert.add_argument("file", metavar="FILE", help="a checkpoint, or a name of `ldip weights list`")
    convert.add_argument("output", metavar="OUT", type=Path, help="the .safetensors file")
    convert.add_argument("--overwrite", action="store_true", help="replace an existing OUT")
    convert.set_defaults(run=_convert)


def _notify(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _list(args: argparse.Namespace) -> int:
    from ldip_jax.cache import cache_dir
    from ldip_jax.weights.catalogue import CATALOGUE
    from ldip_jax.weights.export import export_file, read_export, shipped_names
    from ldip_jax.weights.fetch import cached

    width = max(map(len, CATALOGUE))
    for entry in CATALOGUE.values():
        state = "fetched" if cached(entry) else "-"
        print(f"{entry.name:{width}}  {entry.kind:8}  {entry.size / 1e6:5.1f} MB  {state:7}  {entry.summary}")
        print(f"{'':{width}}  {entry.licence}")
    for name in shipped_names():
        size = export_file(name).stat().st_size / 1e6
        export = read_export(export_file(name))
        summary = ", ".join([*export.groups, "for --lrrf", *filter(None, [export.provenance.get("use")])])
        print(f"{name:{width}}  {'lrrf':8}  {size:5.1f} MB  {'shipped':7}  {summary}")
        print(f"{'':{width}}  Apache-2.0, the ldip_jax authors")
    print(f"\nFetched files are kept in {cache_dir()}")
    return 0


def _fetch(args: argparse.Namespace) -> int:
    from ldip_jax.weights.catalogue import CATALOGUE, nearest
    from ldip_jax.weights.export import export_file, shipped_names
    from ldip_jax.weights.fetch import fetch

    for name in args.names:
        if name not in CATALOGUE and name not in shipped_names():
            raise InputError(f"{name}: no such name{nearest(name)}; see `ldip weights list`")
    for name in args.names:
        if name in shipped_names():
            print(f"{name}: {export_file(name)} (comes with this package)")
            continue
        print(f"{name}: {fetch(name, progress=_notify)}")
    return 0


def _info(args: argparse.Namespace) -> int:
    from ldip_jax.inference.model import count_parameters
    from ldip_jax.weights.catalogue import CATALOGUE
    from ldip_jax.weights.export import export_file, is_export, read_export
    from ldip_jax.weights.load import load_weights

    entry = CATALOGUE.get(args.what)
    if entry is not None and entry.kind == "clip":
        rows = {"what": entry.summary, "size": f"{entry.size:,} bytes", "sha256": entry.sha256}
        _table({**rows, "licence": entry.licence, "from": entry.source.origin})
        return 0
    if entry is None and is_export(export_file(args.what)):
        export = read_export(export_file(args.what))
        rows = {"what": "an LRRF export", "backbone": f"{export.backbone}, sha256 {export.backbone_sha256}"}
        rows |= {name: f"{count_parameters(group):,} parameters" for name, group in export.groups.items()}
        rows["checksum"] = "of all its content, matches" if export.has_checksum else "none in the file"
        _table({**rows, "config": json.dumps(export.config), **export.provenance})
        return 0
    weights = load_weights(args.what, progress=_notify)
    _table(
        {
            "network": weights.network,
            "config": ", ".join(f"{name} {value}" for name, value in weights.config.items()) or "-",
            "parameters": f"{count_parameters(weights.params):,}",
            "sha256": weights.sha256,
            "licence": weights.licence,
        }
    )
    for note in weights.notes:
        print(f"  {note}")
    return 0


def _table(rows: dict[str, str]) -> None:
    from ldip_jax.untrusted import printable

    width = max(map(len, map(printable, rows)))
    for name, value in rows.items():
        print(f"{printable(name):{width}}  {printable(value, 2000)}")


def _convert(args: argparse.Namespace) -> int:
    from ldip_jax.weights.load import load_weights, save_weights

    if args.output.suffix != ".safetensors":
        raise InputError(f"{args.output}: converted weights need the extension .safetensors; rename it")
    if os.path.lexists(args.output) and not args.overwrite:
        raise InputError(f"{args.output}: exists already; add --overwrite or choose another name")
    weights = load_weights(args.file, progress=_notify)
    for note in weights.notes:
        _notify(note)
    save_weights(args.output, weights)
    print(f"{args.output}: {weights.network} from {weights.name}")
    return 0

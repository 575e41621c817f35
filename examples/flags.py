"""Flags shared by the examples."""

import argparse


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of flags for the weights and the size of the synthetic clip."""
    flags = argparse.ArgumentParser(description=description)
    flags.add_argument("--backbone", default="basicvsr-reds4", help="name or file; fetched on first use")
    flags.add_argument("--lrrf", default="default", help="name or file of the weights of LRRF")
    flags.add_argument("--frames", type=int, default=9)
    flags.add_argument("--size", type=int, nargs=2, default=(48, 64), metavar=("HEIGHT", "WIDTH"))
    return flags

"""The flags that the examples share."""

import argparse


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the weights, and the size of the synthetic clip."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--backbone", default="basicvsr-reds4", help="name or file; fetched on first use")
    made.add_argument("--lrrf", default="default", help="name or file of the weights of LRRF")
    made.add_argument("--frames", type=int, default=9)
    made.add_argument("--size", type=int, nargs=2, default=(48, 64), metavar=("HEIGHT", "WIDTH"))
    return made

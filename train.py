"""`ldip train` from a checkout; see `python train.py --help`."""

import sys

from ldip_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))

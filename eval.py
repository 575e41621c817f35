"""`ldip eval` from a checkout; see `python eval.py --help`."""

import sys

from ldip_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))

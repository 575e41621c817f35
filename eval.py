"""Score LDIP on a benchmark or on clips of your own; `python eval.py --help` tells how."""

import sys

from ldip_jax.evaluation.command import main

if __name__ == "__main__":
    sys.exit(main())

"""The earlier name of `ldip prepare` and `ldip records`; `python -m ldip_jax.data.prepare` runs them."""

import runpy
import sys

if __name__ == "__main__":
    words = sys.argv[1:]
    sys.argv[1:] = words if words[:1] == ["records"] else ["prepare", *words]
    # Another program, not an import: what is in data/ does not depend on the command line.
    runpy.run_module("ldip_jax.cli.main", run_name="__main__", alter_sys=True)

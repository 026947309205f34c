"""`python -m dyadnet` is the command `dyadnet`."""

import sys

from dyadnet.cli import main

if __name__ == "__main__":
    sys.exit(main())

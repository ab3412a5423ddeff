"""`python -m parmlip` is the same as `parmlip`."""

import sys

from parmlip.cli import main

sys.exit(main())

"""`python -m ted_distill` is `ted`, so that `torchrun -m ted_distill` and `accelerate launch -m ted_distill` work."""

import sys

from .cli.main import main

sys.exit(main())

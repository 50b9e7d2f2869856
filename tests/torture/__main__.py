"""`python -m tests.torture --seed 1 --minutes 15`."""

import os
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: forked processes can't use its threads
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture.campaign import main

sys.exit(main())

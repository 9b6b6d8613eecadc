"""Makes the simulator's modules importable as `shuffle_sim`, as `python tests/sim/run.py` does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

#!/usr/bin/env python3
"""Makes tiny checkpoints with quantized weights for models/tests/packed: packed by the code of the tools that users have
them from, with what transformers computes from them in float32.

    golden_packed.py [NAME ...]

Needs: pip install torch transformers safetensors gguf accelerate compressed-tensors==0.12.2
       pip install --no-deps autoawq==0.2.9 auto-gptq==0.7.1 gptqmodel==2.2.0 logbar   (only their packing is used)
The files are written to models/tests/goldens/packed and committed; tests read them and never run this script.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
OUT = Path(__file__).resolve().parent.parent / "models" / "tests" / "goldens" / "packed"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="where they are written")
    parser.add_argument("names", nargs="*", help="which checkpoints (default: all)")
    args = parser.parse_args()
    from goldens import packed

    packed.write_all(args.out, args.names)


if __name__ == "__main__":
    main()

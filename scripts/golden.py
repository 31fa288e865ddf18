#!/usr/bin/env python3
"""Makes the reference data of the tests with the authors' own code; no number here comes from this project.

    golden.py tiny [NAME ...] [--converter LLAMA.CPP]   tiny random checkpoints and what transformers computes from them in
                                      float32; GGUF files of families beside llama are written by llama.cpp's converter
    golden.py rope                    frequencies of rope by transformers, for every scaling
    golden.py lora                    adapters for one of them, and what transformers computes with these merged by PEFT
    golden.py llama-tiny              reads the tiny GGUF files with llama.cpp and compares with transformers
    golden.py smollm2 MODEL.gguf      transformers on the real model (GGUF dequantized to float32)
    golden.py llama-smollm2 MODEL.gguf   llama.cpp on the real model

tiny and smollm2 need: pip install torch transformers safetensors gguf accelerate; lora needs peft as well
llama-tiny and llama-smollm2 need: pip install llama-cpp-python gguf
The files they write are committed; tests read them and never run this script.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
OUT = Path(__file__).resolve().parent.parent / "models" / "tests" / "goldens"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="where goldens are written (default: models/tests/goldens)")
    commands = parser.add_subparsers(dest="command", required=True)
    tiny = commands.add_parser("tiny")
    tiny.add_argument("names", nargs="*", help="which checkpoints (default: all)")
    tiny.add_argument("--converter", type=Path, help="the folder of llama.cpp's convert_hf_to_gguf.py")
    commands.add_parser("rope")
    commands.add_parser("lora")
    commands.add_parser("llama-tiny")
    commands.add_parser("smollm2").add_argument("model", type=Path)
    commands.add_parser("llama-smollm2").add_argument("model", type=Path)
    args = parser.parse_args()
    if args.command == "tiny":
        if args.converter:  # with the gguf package that it comes with
            sys.path[:0] = [str(args.converter / "gguf-py"), str(args.converter)]
        from goldens import tiny

        tiny.write_all(args.out / "tiny", args.names)
    elif args.command == "rope":
        from goldens import rope

        rope.write(args.out)
    elif args.command == "lora":
        from goldens import lora

        lora.write(args.out)
    elif args.command == "llama-tiny":
        from goldens import llama

        llama.compare_tiny(args.out / "tiny")
    elif args.command == "smollm2":
        from goldens import smollm2

        smollm2.write(args.out / "smollm2", args.model)
    else:
        from goldens import llama

        llama.write_smollm2(args.out / "smollm2", args.model)


if __name__ == "__main__":
    main()

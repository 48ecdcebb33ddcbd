"""All benchmarks of the pipeline in one go, one table in Markdown.

    python -m tests.benchmarks [--device cuda] [--annotations instances.json --images images/] [--quick] [--out FILE]

Each line comes from a script of this folder, which says what it times and what is wanted; ratios are within one run of
it. --quick shows fewer probes and skips training. On a GPU, batches are as large as fit.
"""

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# Model, input, probes on a GPU, on a CPU, and on a CPU in a hurry.
MODELS = (
    ("random:vit_small_patch16_224", None, 5000, 500, 96),
    ("random:resnet50", None, 5000, 200, 64),
    ("random:vit_large_patch14_dinov2", 518, 1000, 8, 4),
)
METHODS = ("ibot", "densecl")


def printed(script, *words):
    """Lines that a script of this folder prints."""
    done = subprocess.run(
        [sys.executable, HERE / script, *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{script} {' '.join(map(str, words))} failed:\n{done.stderr[-2000:]}")
    return done.stdout.splitlines()


def table(lines):
    """Lines of cells as a table in Markdown, the first one its header."""
    rows = ["| " + " | ".join(cells) + " |" for cells in lines]
    return [rows[0], "|" + " --- |" * len(lines[0]), *rows[1:]]


def measuring(options, data, on_gpu):
    """The table of measuring against bare passes."""
    head = (
        "model, px, device, precision, design, probes, images/s, loop, whole, drawing ms, pack KiB a probe, packing s"
    )
    lines = [head.split(", ")]
    for model, size, many, some, few in MODELS:
        for design in ("pairs", "ring"):
            count = many if on_gpu else few if options.quick else some
            words = [
                "--model",
                model,
                "--probes",
                count,
                "--design",
                design,
                "--device",
                options.device,
                "--json",
                *data,
            ]
            words += ["--size", size] if size else []
            words += ["--batch-size", "auto"] if on_gpu else []
            found = json.loads(printed("pipeline.py", *words)[-1])
            numbers = ("images_per_s", "loop", "whole", "drawing_ms", "pack_kib", "packing_s")
            said = [str(found[key]) for key in ("model", "size", "device", "precision", "design", "probes")]
            lines.append([*said, *(f"{found[key]:.3g}" for key in numbers)])
            print(lines[-1], file=sys.stderr, flush=True)
    return table(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--annotations")
    parser.add_argument("--images")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    import torch

    on_gpu = torch.accelerator.is_available() and options.device != "cpu"
    data = ["--annotations", options.annotations, "--images", options.images] if options.annotations else []
    card = torch.cuda.get_device_name() if on_gpu and torch.cuda.is_available() else platform.processor() or "CPU"
    text = [f"{card}, {torch.get_num_threads()} threads, torch {torch.__version__}", ""]
    text += measuring(options, data, on_gpu)
    found = json.loads(printed("starting.py", "--json", *data)[-1])
    text += ["", f"A run of control:cell: cold {found['cold_s']:.2f} s, warm {found['warm_s']:.2f} s."]
    if not options.quick:
        text += ["", *printed("processes.py")]
        for method in METHODS:
            text += ["", *printed("training_step.py", "--method", method)]
            text += printed("training_feed.py", "--method", method, "--device", options.device)
    print("\n".join(text))
    if options.out:
        options.out.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The main job at full size: real photographs, and checkpoints of the exact official large shapes.

    python -m benchmarks.photographs [--dtype auto] [--folder ~/.cache/bt-benchmarks]

The photographs are those that scikit-image's wheel carries. The weights are random, so the order of the results means
nothing; sizes, memory and times are what the published weights would give. The two checkpoints (large ITC to retrieve,
large ITM + MLM to rerank; 3.5 GB each in float32) are made once and kept in the folder.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
from pathlib import Path

from benchmarks.base_checkpoint import cache_folder
from benchmarks.command import BT, run

PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "ihc.png",
    "camera.png",
    "coins.png",
    "moon.png",
    "page.png",
    "grass.png",
    "brick.png",
    "gravel.png",
    "cell.png",
    "horse.png",
    "logo.png",
    "color.png",
    "no_time_for_that_tiny.gif",
    "multipage_rgb.tif",
)
LARGE = {
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "text_config": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "vision_config": {"hidden_size": 1024, "num_hidden_layers": 24, "patch_size": 14, "image_size": 294},
}


def make_checkpoint(folder: Path, heads: set[str]) -> None:
    """A checkpoint of the official large shape with random weights and a byte-level vocabulary of the official size."""
    from bt_cli.bridgetower.configuration import BridgeTowerConfig
    from bt_cli.bridgetower.initialisation import initialise
    from bt_cli.bridgetower.network import BridgeTower
    from bt_cli.checkpoints.checkpoint import Checkpoint
    from bt_cli.checkpoints.saving import save_checkpoint
    from bt_cli.preprocessing.image_processor import ImageProcessor

    contrastive = {"contrastive_hidden_size": 512} if "itc" in heads else {}
    network = BridgeTower(BridgeTowerConfig.from_dict({**LARGE, **contrastive}), heads=heads)
    initialise(network)
    # The bundled vocabulary stands in for RoBERTa's, which is not ours to ship; the embedding table has its full size.
    processor = ImageProcessor.from_dict({"size": 294})
    save_checkpoint(network, folder, image_processor=processor, tokenizer=Checkpoint.open("tiny").tokenizer())


def timed(*arguments: str) -> str:
    """Run one command of bt, print it with its time and peak memory, and return what it wrote to stdout."""
    made = run(*BT, *arguments)
    shown = " ".join(argument if " " not in argument else f'"{argument}"' for argument in arguments[:2])
    print(f"{'bt ' + shown:40}  {made.seconds:7.1f} s  {made.peak / 1024:6.2f} GiB")
    return made.written


def main() -> None:
    """Index, search, rerank, score and fill a mask, each as a process of its own."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--dtype", default="auto")
    options.add_argument("--folder", type=Path, default=cache_folder())
    chosen = options.parse_args()
    import skimage

    folder: Path = chosen.folder
    pictures, index = folder / "photographs", folder / "photographs.index"
    retriever, reranker = folder / "large-itc-random", folder / "large-itm-mlm-random"
    shutil.rmtree(index, ignore_errors=True)
    pictures.mkdir(parents=True, exist_ok=True)
    for name in PHOTOGRAPHS:
        shutil.copy(Path(skimage.__file__).parent / "data" / name, pictures / name)
    for checkpoint, heads in ((retriever, {"itc", "itc_cross"}), (reranker, {"itm", "mlm"})):
        if not checkpoint.is_dir():
            print(f"making {checkpoint} (once)", file=sys.stderr)
            # In a process of its own: 3.5 GB of weights would stay with this one.
            maker = multiprocessing.get_context("spawn").Process(target=make_checkpoint, args=(checkpoint, heads))
            maker.start()
            maker.join()

    common = ("--dtype", chosen.dtype, "--quiet")
    both = ("--index", str(index), *common)
    timed("index", str(pictures), "--model", str(retriever), *both)
    found = timed("search", "a cup of coffee on a table", "-k", "5", "--json", *both)
    reranked = ("--rerank", "--reranker", str(reranker), "--candidates", "22")
    timed("search", "a cup of coffee on a table", "-k", "5", "--json", *reranked, *both)
    timed(
        "fill-mask", "a <mask> on a table", "--image", str(pictures / "coffee.png"), "--model", str(reranker), *common
    )
    timed("score", str(pictures / "coffee.png"), "a cup of coffee", "a cat", "--model", str(reranker), *common)
    print(found, end="")


if __name__ == "__main__":
    main()

"""WebDataset with PyTorch's loader, in a process of its own: the file is the program of that process.

It reads one JSON object a line from standard input and answers each with one on standard output. It
imports nothing of this project, so that any Python that has torch and webdataset can run it.

    {"do": "start", "tars", "tokenizer", "batch", "workers", "prefetch", "resolution", "crop", "ratio",
     "length", "word_dropout"}                                     -> {"versions"}
    {"do": "read", "what": "pictures" | "tokens", "batches"}        -> {}           batches that are dropped
    {"do": "read", "what": "pictures" | "tokens", "seconds", "least"}
                                            -> {"examples", "tokens", "seconds"}  of so many at least

What goes wrong is answered as {"error"}.
"""

import importlib.metadata
import io
import json
import math
import os
import random
import sys
import time

import numpy as np
import tokenizers
import torch
import webdataset
from PIL import Image


class Pictures:
    """JPEG bytes to a random crop, flipped or not: uint8 [resolution, resolution, 3]."""

    def __init__(self, request):
        self.side, self.crop, self.ratio = request["resolution"], request["crop"], request["ratio"]

    def __call__(self, sample):
        image = Image.open(io.BytesIO(sample["jpg"]))
        if image.mode == "RGB":
            image.load()
        else:
            image = image.convert("RGB")
        square = (self.side, self.side)
        image = image.resize(square, Image.Resampling.BICUBIC, box=self.box(*image.size))
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.asarray(image)

    def box(self, width, height):
        for _ in range(10):
            area = random.uniform(*self.crop) * width * height
            aspect = math.exp(random.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
            if w <= width and h <= height:
                left, top = random.uniform(0, width - w), random.uniform(0, height - h)
                return left, top, left + w, top + h
        side = min(width, height)
        return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


class Texts:
    """A caption to token ids, int32 [length]; words are left out at random."""

    def __init__(self, request):
        self.file, self.length, self.dropout = (
            request["tokenizer"],
            request["length"],
            request["word_dropout"],
        )
        self.tokenizer = None

    def __call__(self, sample):
        if self.tokenizer is None:  # in the worker, not in the process that it is forked from
            self.tokenizer = tokenizers.Tokenizer.from_file(self.file)
            self.tokenizer.enable_truncation(self.length)
            self.tokenizer.enable_padding(pad_id=0, pad_token="[PAD]", length=self.length)
        words = sample["txt"].decode().split()
        kept = [word for word in words if random.random() >= self.dropout]
        return np.array(self.tokenizer.encode(" ".join(kept or words)).ids, np.int32)


class Session:
    def start(self, request):
        torch.set_num_threads(1)
        self.request, self.readers = request, {}
        self.views = {"pictures": Pictures(request), "tokens": Texts(request)}
        packages = ("torch", "webdataset", "pillow", "tokenizers")
        return {"versions": {name: importlib.metadata.version(name) for name in packages}}

    def read(self, request):
        if request["what"] not in self.readers:
            self.readers[request["what"]] = self.reader(request["what"])
        reader = self.readers[request["what"]]
        if "batches" in request:
            for _ in range(request["batches"]):
                next(reader)
            return {}
        examples, tokens, began = 0, 0, time.perf_counter()
        while examples < request["least"] or time.perf_counter() - began < request["seconds"]:
            batch = next(reader)
            examples += len(batch)
            tokens += int((batch != 0).sum()) if request["what"] == "tokens" else 0
        return {"examples": examples, "tokens": tokens, "seconds": time.perf_counter() - began}

    def reader(self, what):
        request = self.request
        samples = webdataset.WebDataset(
            request["tars"], shardshuffle=False, nodesplitter=None, workersplitter=None, empty_check=False
        )
        samples = samples.repeat().shuffle(1000).map(self.views[what])
        # PyTorch's own collation stacks the examples in the memory that the processes share.
        samples = samples.batched(request["batch"], collation_fn=torch.utils.data.default_collate)
        prefetch = {"prefetch_factor": request["prefetch"]} if request["workers"] else {}
        loader = torch.utils.data.DataLoader(
            samples, batch_size=None, num_workers=request["workers"], **prefetch
        )
        return iter(loader)


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    session = Session()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(session, request["do"])(request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

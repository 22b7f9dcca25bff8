"""PyTorch libraries, run in a process of their own: the file is the program of that process.

It reads one JSON object a line from standard input and answers each with one on standard output. It
imports nothing of this project, so that any Python that has torch and the library can run it.

    {"do": "start", "peer", "loss", "rows", "columns", "dtype", "scale", "bias", "threads"}
        -> {"peak_bytes", "versions"}       after the first run, which is the warm-up
    {"do": "run"}                      -> {"seconds"}
    {"do": "gradients", "rows", "columns", "out"} -> {"value", "scale", "bias"}; the embeddings' go to `out`

`rows` and `columns` are .npy files of float32. What goes wrong is answered as {"error"}.
"""

import importlib.metadata
import importlib.util
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch

_SLICE = 64  # examples of the run that starts threads and kernels, before memory is looked at


def open_clip(loss):
    """`ClipLoss` or `SigLipLoss`; the file alone, since the package needs a torchvision that fits torch."""
    file = Path(importlib.util.find_spec("open_clip").origin).with_name("loss.py")
    spec = importlib.util.spec_from_file_location("open_clip_loss", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if loss == "sigmoid":
        function = module.SigLipLoss()
        return lambda q, k, scale, bias: backward(function(q, k, scale, bias))
    function = module.ClipLoss()
    return lambda q, k, scale, bias: backward(function(q, k, scale))


def sentence_transformers(loss):
    """`CachedMultipleNegativesRankingLoss` both ways, from embeddings; its scale is no tensor."""
    try:
        from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
    except ImportError:  # before 6
        from sentence_transformers.losses import CachedMultipleNegativesRankingLoss

    class Model(torch.nn.Module):
        def __getitem__(self, index):
            return self

    def run(q, k, scale, bias):
        function = CachedMultipleNegativesRankingLoss(
            Model(),
            scale=float(scale),
            mini_batch_size=512,
            directions=("query_to_doc", "doc_to_query"),
            partition_mode="per_direction",
        )
        return function.calculate_loss([list(q.split(512)), list(k.split(512))], with_backward=True).detach()

    return run


def inf_cl(loss):
    """Both directions of the fused kernel, each a call of its own."""
    from inf_cl.flash import cal_flash_loss

    def run(q, k, scale, bias):
        both = cal_flash_loss(q, k, scale=scale).mean() + cal_flash_loss(k, q, scale=scale).mean()
        return backward(both / 2)

    return run


def siglip_kernel(loss):
    """The kernel that the library chooses itself; it takes the logarithm of the scale."""
    from siglip_kernel import fused_siglip_loss

    return lambda q, k, scale, bias: backward(fused_siglip_loss(q, k, scale.log(), bias))


PEERS = {
    "open_clip": ("open_clip_torch", open_clip),
    "sentence-transformers": ("sentence-transformers", sentence_transformers),
    "inf_cl": ("inf_cl", inf_cl),
    "siglip_kernel": ("siglip_kernel", siglip_kernel),
}


def backward(value):
    value.backward()
    return value.detach()


class Session:
    """One library, on the data that `start` names."""

    def start(self, request):
        torch.set_num_threads(request["threads"])
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype = getattr(torch, request["dtype"])
        self.scale, self.bias = request["scale"], request["bias"]
        package, make = PEERS[request["peer"]]
        self.function = make(request["loss"])
        self.inputs = self.load(request)
        self.once(*(z.detach()[:_SLICE].clone().requires_grad_() for z in self.inputs))
        peak = Peak(self.device)
        self.once(*self.inputs)
        versions = {"torch": torch.__version__, package: importlib.metadata.version(package)}
        return {"peak_bytes": peak.bytes(), "versions": versions}

    def run(self, request):
        for z in self.inputs:
            z.grad = None
        self.wait()
        began = time.perf_counter()
        self.once(*self.inputs)
        self.wait()
        return {"seconds": time.perf_counter() - began}

    def gradients(self, request):
        q, k = self.load(request)
        value, scale, bias = self.once(q, k)
        np.savez(request["out"], rows=q.grad.float().cpu().numpy(), columns=k.grad.float().cpu().numpy())
        found = {
            name: x.grad if x.grad is None else float(x.grad)
            for name, x in (("scale", scale), ("bias", bias))
        }
        return {"value": float(value), **found}

    def once(self, q, k):
        scale, bias = (
            torch.tensor(x, device=self.device, requires_grad=True) for x in (self.scale, self.bias)
        )
        return self.function(q, k, scale, bias), scale, bias

    def load(self, request):
        arrays = (torch.from_numpy(np.load(request[side])) for side in ("rows", "columns"))
        return [x.to(self.device, self.dtype).requires_grad_() for x in arrays]

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()


class Peak:
    """The most memory beyond what was in use when it was made."""

    def __init__(self, device):
        self.cuda = device == "cuda"
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
            return
        self.before = self.resident()
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark falls to what is in use
            self.before = self.resident()
        except OSError:
            pass

    def bytes(self):
        if self.cuda:
            return torch.cuda.max_memory_allocated() - self.before
        return max(self.resident() - self.before, 0)

    def resident(self):
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
        except (OSError, StopIteration):
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
                1 if sys.platform == "darwin" else 1024
            )


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

"""The measure of agreement: outputs and gradients of a PyTorch model against ours, in float32."""

import copy
import dataclasses
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import torch

from contrastive_jax import interop
from contrastive_jax.interop import names

TOLERANCE = 2e-5  # of the norm of what is compared


def randomized(model, seed=0):
    """The model with every parameter drawn anew: nothing is zero or one that could hide a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            norm = (parameter.ndim == 1 and "norm" in name.lower()) or "ln_" in name
            fan = (
                parameter.shape[-1]
                if parameter.ndim == 2
                else parameter[0].numel()
                if parameter.ndim > 2
                else 25
            )
            parameter.copy_(noise * fan**-0.5 + (1 if norm and name.endswith("weight") else 0))
    return model.eval()


def error(ours, theirs):
    """The norm of the difference over the norm of theirs."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    assert np.linalg.norm(theirs) > 0
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def projected(params, encoder, head, view):
    """The encoder's embedding, and its projection if there is a head."""
    embedding = encoder.apply(params, view, train=False, key=None).embedding
    return embedding if head is None else embedding @ head["kernel"] + head.get("bias", 0)


def check(folder, part, encoder, model, features, view, example=None):
    """Asserts that our encoder with these weights computes what the torch `model` does.

    features(model, torch view) is the embedding [B, D]. Compared: it, and the gradients of a random
    linear function of it, by every parameter of the encoder and, for pictures, by the input.
    """
    weights = interop.read(folder)
    params, head = interop.load(weights, part, encoder, example), interop.head(weights, part)
    their_view = torch.tensor(np.moveaxis(view, -1, 1) if part == "image" else view)
    if part == "image":
        their_view = their_view.contiguous().requires_grad_()
    theirs = features(model, their_view)
    direction = np.random.default_rng(5).normal(size=theirs.shape).astype(np.float32)
    (theirs * torch.tensor(direction)).sum().backward()

    def linear(params, view):
        ours = projected(params, encoder, head, view)
        return jnp.vdot(ours, direction), ours

    wrt = (0, 1) if part == "image" else 0
    gradients, ours = jax.jit(jax.grad(linear, wrt, has_aux=True))(params, view)
    assert error(ours, theirs.detach()) < TOLERANCE, "embedding"
    by_params, by_view = gradients if part == "image" else (gradients, None)
    wanted = their_gradients(weights, part, encoder, model, params)
    whole = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in wanted.values()))
    assert whole > 0
    flat = names.flatten(by_params)
    assert set(flat) == set(wanted)
    for name, gradient in flat.items():
        if name == "transformer/position" and gradient.shape != wanted[name].shape:
            continue  # of the interpolated table; theirs is of the table itself
        difference = np.linalg.norm(np.asarray(gradient) - wanted[name])
        assert difference < TOLERANCE * whole, f"gradient of {name}"
    if part == "image":
        assert error(by_view, np.moveaxis(their_view.grad.numpy(), 1, -1)) < TOLERANCE, "gradient of input"


def their_gradients(weights, part, encoder, model, params):
    """{our parameter: the gradient that torch found}, through the very table that names the parameters."""
    saved = saved_gradients(model, weights)
    table = interop.family_of(weights).table(weights, part, encoder)
    shapes = {name: tuple(leaf.shape) for name, leaf in names.flatten(params).items()}
    # What is filled in is no parameter of theirs: nothing reads it, so its gradient is 0.
    table = table._replace(rows=tuple(row._replace(fill=0.0) for row in table.rows))
    rows = [r for r in table.rows if all(n.replace(names.LAYER, str(r.first)) in saved for n in r.theirs)]
    for row in rows:
        if row.ours == ("transformer/position",):
            shapes[row.ours[0]] = row.transform.load(saved[row.theirs[0]])[0].shape
    assert rows == list(table.rows)
    given = dataclasses.replace(weights, files=dict.fromkeys(saved), given=saved)
    return names.load(table._replace(ignored=("*",)), given, shapes)


def saved_gradients(model, weights):
    """{tensor name in the file: gradient}; a model whose names in memory differ saves its gradients."""
    gradients = {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}
    if all(name in weights for name in gradients):
        return gradients
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for (_, parameter), (_, own) in zip(twin.named_parameters(), model.named_parameters()):
            parameter.copy_(torch.zeros_like(own) if own.grad is None else own.grad)
    with tempfile.TemporaryDirectory() as folder:
        twin.save_pretrained(folder)
        read = interop.read(folder)
        return {name: read[name] for name in read.names}

"""The kind of device that a program is traced for, which is not always one that is here."""

from __future__ import annotations

import jax


def platform() -> str:
    """The platform ("cpu", "gpu", "tpu") of the ambient mesh, else of this process's default backend."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform

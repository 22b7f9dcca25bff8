"""The place of a process in its run."""

from __future__ import annotations

from dataclasses import dataclass

from contrastive_jax.errors import InputError


@dataclass(frozen=True)
class Place:
    """The coordinator's host:port, how many processes, which one this is, by flags or a launcher.

    devices: the numbers of this machine's devices that are this process's; None: all that it sees.
    """

    coordinator: str
    count: int
    index: int
    launcher: str | None = None
    devices: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise InputError(f"{self}: give host:port of process 0")
        if self.count < 1:
            raise InputError(f"--processes {self.count}: give 1 or more")
        if not 0 <= self.index < self.count:
            raise InputError(
                f"--process-id {self.index}: give 0 to {self.count - 1} (--processes {self.count})"
            )

    def __str__(self) -> str:
        if self.launcher:
            return f"the coordinator {self.coordinator}, as {self.launcher} has it"
        return f"--coordinator {self.coordinator}"

    @property
    def host(self) -> str:
        return self.coordinator.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.coordinator.rpartition(":")[2])

"""What there is to say in a config: its keys, as the fields of what is built from them."""

from dataclasses import dataclass, field
from typing import Annotated

from contrastive_jax import encoders, evaluation, losses
from contrastive_jax.branches import MEMORIES, Branch, Teacher
from contrastive_jax.configuration import Kind, Named
from contrastive_jax.data import samplers, tokenizers, views
from contrastive_jax.data.faults import RETRY_SECONDS
from contrastive_jax.distributed.joining import Limits
from contrastive_jax.distributed.mesh import MeshShape
from contrastive_jax.encoders.heads import KINDS as HEADS
from contrastive_jax.named_files import FILE_BYTES
from contrastive_jax.training import optimizer, starting
from contrastive_jax.training.lora import Adapter


@dataclass(frozen=True)
class Data:
    """source: a name or kind:path; workers: processes that read ahead (0: a thread), prefetch batches
    each; skip: keys (a number: places in the source) of records that are not trained on; broken_share: the
    share of records that may be unreadable before the run stops; stall_seconds: the longest wait for a
    batch; file_bytes: of a file that a record names, at most; retry_seconds: how long a store that fails is
    tried again before the run ends; order: the version of the samplers' orders, 1 or 2 (None: that of the
    work directory's run, in a new one 2)."""

    source: str
    views: Annotated[dict, Named(Kind(views.KINDS))]
    sampler: Annotated[dict, Kind(samplers.KINDS)]
    tokenizer: Annotated[dict, Kind(tokenizers.KINDS)] | None = None
    workers: int = 0
    prefetch: int = 4
    skip: tuple[str | int, ...] = ()
    broken_share: float = 0.01
    stall_seconds: float = 600.0
    file_bytes: int = FILE_BYTES
    retry_seconds: float = RETRY_SECONDS
    order: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint every so many steps or minutes (as 15min; None: 500 steps, or 15 minutes where those take
    longer), and at the end. The newest `keep` stay (None: all), and those whose
    step is a multiple of `keep_every`, and the one with the highest value of the metric `best`, or with
    the lowest: a metric of its step's line, such as retrieval/text_to_image/R@5."""

    every: int | str | None = None
    keep: int | None = 2
    keep_every: int | None = None
    best: str | None = None
    lowest: bool = False


@dataclass(frozen=True)
class Logging:
    """A line of metrics every so many steps, and at the end; tensorboard: there as well; peak_flops: what a
    device can do in a second, for the metric mfu (None: as the maker of a known one states it);
    collapse_steps: how many in a row a loss may be that of chance before a warning (None: a tenth of all, 100
    to 1000)."""

    every: int = 10
    tensorboard: bool = True
    peak_flops: float | None = None
    collapse_steps: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """Evaluators, every so many steps (None: only at the end), on the records of `source` where they name
    no source of their own."""

    evaluators: Annotated[dict, Named(Kind(evaluation.KINDS))]
    source: str | None = None
    every: int | None = None
    batch_size: int = 512


@dataclass(frozen=True)
class Config:
    """The top-level keys of every config. batch_size: the contrastive batch; microbatch: examples that a
    device encodes at once (None: all of its share); mode: in_core, or out_of_core for a batch whose inputs
    do not fit, which is then read twice, a microbatch for every device at a time; init_from: weights that a
    new run starts from; frozen: patterns of the names of parameters that are not trained, as
    encoders/image/*; lora: matrices that are trained through adapters of low rank; skip_bad_steps: how many
    steps of the run, in all, may be skipped because their loss or gradient is not finite (0: none, the run
    stops at the first); export: formats such as huggingface, or sentence-transformers:query of one branch,
    which must be able to hold the model: that is looked at before the first step."""

    steps: int
    batch_size: int
    data: Data
    encoders: Annotated[dict, Named(Kind(encoders.KINDS))]
    branches: Annotated[dict, Named(Branch)]
    losses: Annotated[dict, Named(Kind(losses.KINDS))]
    optimizer: Annotated[dict, Kind(optimizer.KINDS)]
    heads: Annotated[dict, Named(Kind(HEADS))] = field(default_factory=dict)
    teachers: Annotated[dict, Named(Teacher)] = field(default_factory=dict)
    memory: Annotated[dict, Named(Kind(MEMORIES))] = field(default_factory=dict)
    init_from: Annotated[dict, Named(starting.InitFrom)] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    lora: Annotated[dict, Named(Adapter)] = field(default_factory=dict)
    seed: int = 0
    skip_bad_steps: int = 0
    microbatch: int | None = None
    mode: str = "in_core"
    mesh: MeshShape = MeshShape()
    processes: Limits = Limits()
    export: tuple[str, ...] = ()
    checkpoint: Checkpoint = Checkpoint()
    logging: Logging = Logging()
    evaluation: Evaluation | None = None

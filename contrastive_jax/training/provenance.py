"""What the data of a run are made of: noted when it begins, compared whenever it goes on."""

from __future__ import annotations

import functools
import hashlib
import logging
from pathlib import Path

from contrastive_jax.data.contents import Contents, as_json, difference, from_json
from contrastive_jax.distributed.processes import Group
from contrastive_jax.errors import InputError
from contrastive_jax.training.agreement import check_same_data
from contrastive_jax.training.experiment import Experiment
from contrastive_jax.training.stores.paths import StorePath
from contrastive_jax.training.workdir import DATA, read_data, write_json

log = logging.getLogger(__name__)

FORMAT = 1
_TRAINING, _EVALUATION = "config.data.source", "config.evaluation"


class Provenance:
    """The data of a run in a work directory, by `Contents`: counts and names, sizes and samples of files.

    Args:
        experiment: opens the sources.
        path: the work directory.
        accept: whether a run may go on with other training data than it began with.
    """

    def __init__(self, experiment: Experiment, path: Path | StorePath, accept: bool = False) -> None:
        self._experiment, self._path, self._accept = experiment, path, accept
        self._agreed = False

    @functools.cached_property
    def here(self) -> dict[str, list[Contents]]:
        """{key=source: what it is made of} of the training source and those of the evaluators."""
        data, evaluation = self._experiment.config.data, self._experiment.config.evaluation
        found = {f"{_TRAINING}={data.source}": _contents(_TRAINING, self._experiment.source)}
        for name, evaluator in evaluation.evaluators.items() if evaluation else ():
            for spec, source in zip(evaluator.sources, self._experiment.evaluator_sources(name)):
                key = f"{_EVALUATION}={spec or evaluation.source}"
                if key not in found:
                    found[key] = _contents(_EVALUATION, source)
        return found

    def check(self) -> None:
        """Raises InputError where the run's training data are others than when it began, naming both.

        Of evaluators' sources that differ there is a warning: what they measured before stays as it is.
        """
        noted = read_data(self._path)
        if noted is None:
            log.info("%s does not say what its data were: they are noted now", self._path)
            return
        if noted.get("format") != FORMAT or not isinstance(noted.get("sources"), dict):
            raise InputError(
                f"{self._path / DATA} is not of format {FORMAT}, which this version writes: delete it to go "
                "on with the data as they are now"
            )
        for name, words in self._differing(noted["sources"]).items():
            key = name.partition("=")[0]
            if key != _TRAINING:
                log.warning("%s: %s: figures of before are of other records", key, words)
            elif self._accept:
                log.warning("%s goes on with other data: %s", self._path, words)
            else:
                raise InputError(
                    f"{key}: the data are not those that {self._path} began with: {words}: put those back, "
                    "give another --workdir, or go on with these by --accept-changed-data"
                )

    def agree(self, group: Group) -> None:
        """Raises InputError in every process where one of them has other data."""
        if not self._agreed:
            check_same_data(group, self.here)
            self._agreed = True

    def note(self) -> None:
        """Writes down what the data are made of, where that is not there already."""
        known = read_data(self._path) or {}
        sources = {name: as_json(parts) for name, parts in self.here.items()}
        noted = {**known, "format": FORMAT, "sources": sources}
        if known != noted:
            write_json(self._path / DATA, noted)

    def _differing(self, noted: dict[str, list[dict]]) -> dict[str, str]:
        """{key=source: what differs} of those that were there already."""
        found = {}
        for name, parts in self.here.items():
            # The training data may lie elsewhere by now.
            known = noted.get(name) or next((noted[n] for n in noted if _is_training(n, name)), None)
            if known is not None and (words := difference(parts, from_json(known))):
                found[name] = words
        return found


def settle_tokenizer(path: Path | StorePath, content: bytes, note: bool) -> None:
    """Raises InputError where a run's tokenizer is not the one that it began with.

    content: of the work directory's `tokenizer.json`; note: whether it is written down where it is not yet.
    """
    here, known = hashlib.sha256(content).hexdigest(), read_data(path) or {}
    if known.get("tokenizer", here) != here:
        raise InputError(
            f"{path}/tokenizer.json is not the one that the run began with: put that back, or give another "
            "--workdir"
        )
    if note and known and "tokenizer" not in known:
        write_json(path / DATA, known | {"tokenizer": here})


def _is_training(*names: str) -> bool:
    return all(name.startswith(f"{_TRAINING}=") for name in names)


def _contents(key: str, source) -> list[Contents]:
    try:
        return source.contents()
    except InputError as error:
        raise InputError(f"{key}: {error}") from error

"""Lines, TensorBoard and traces of a run in a bucket: put there whole, at the moments that are promised."""

import pytest

from contrastive_jax.distributed.processes import ALONE
from contrastive_jax.training.journal import Journal
from contrastive_jax.training.stores import mirror
from contrastive_jax.training.stores.mirror import Mirror
from contrastive_jax.training.stores.paths import StoreFault, StorePath
from contrastive_jax.training.writers import MetricsFile


def values(step):
    return {"loss": 1.0 / step, "pairs_per_second": 1.0}


def in_the_store(run, tmp_path):
    (tmp_path / "copy.jsonl").write_bytes((run / "metrics.jsonl").read_bytes())
    return [line["step"] for line in MetricsFile(tmp_path / "copy.jsonl").lines()]


def test_lines_are_there_once_they_are_flushed_and_go_on(run_in_bucket, tmp_path):
    journal = Journal(run_in_bucket, 9, True, ALONE)
    journal.begin(0, False)
    for step in (1, 2, 3):
        journal.write(step, values(step))
    assert not (run_in_bucket / "metrics.jsonl").exists()
    journal.flush()
    assert in_the_store(run_in_bucket, tmp_path) == [1, 2, 3]
    assert len((run_in_bucket / "tensorboard").files()) == 1
    # The process is killed here; a checkpoint of step 2 is there.
    with Journal(run_in_bucket, 9, True, ALONE) as journal:
        assert journal.begin(2, True) == 3
        assert in_the_store(run_in_bucket, tmp_path) == [1, 2]
        journal.write(3, values(3))
        journal.amend(3, {"accuracy": 0.5})
    assert in_the_store(run_in_bucket, tmp_path) == [1, 2, 3]
    assert journal.lines()[-1]["accuracy"] == 0.5
    assert len((run_in_bucket / "tensorboard").files()) == 2


def test_between_checkpoints_lines_come_now_and_then(run_in_bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "PUSH_SECONDS", 0)
    journal = Journal(run_in_bucket, 9, False, ALONE)
    journal.begin(0, False)
    journal.write(1, values(1))
    journal._mirror._thread.join(30)
    assert in_the_store(run_in_bucket, tmp_path) == [1]


def test_what_has_not_changed_is_not_put_again_and_what_is_gone_goes(run_in_bucket, monkeypatch):
    held = Mirror(run_in_bucket, ("a", "folder"))
    (held.local / "folder" / "deep").mkdir(parents=True)
    for name in ("a", "folder/b", "folder/deep/c", "other"):
        (held.local / name).write_text(name)
    held.push()
    assert sorted(run_in_bucket.files()) == ["a", "folder/b", "folder/deep/c"]
    again = Mirror(run_in_bucket, ("a", "folder"))
    again.fetch()
    assert (again.local / "folder" / "deep" / "c").read_text() == "folder/deep/c"
    (again.local / "a").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(StorePath, "write_bytes", lambda *_: pytest.fail("put again"))
        again.push()
    assert sorted(run_in_bucket.files()) == ["folder/b", "folder/deep/c"]


def test_of_two_faults_the_first_is_told(run_in_bucket, monkeypatch, caplog):
    def refuse(path, content):
        raise StoreFault("no answer")

    journal = Journal(run_in_bucket, 9, False, ALONE)
    journal.begin(0, False)
    with monkeypatch.context() as patch:
        patch.setattr(StorePath, "write_bytes", refuse)
        journal.write(1, values(1))
        with pytest.raises(KeyError), journal:
            raise KeyError
        with pytest.raises(StoreFault), journal:
            pass
    assert "the last lines are lost: no answer" in caplog.text

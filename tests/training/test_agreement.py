"""Whether a process sees what another one has written."""

import threading

from contrastive_jax.training import agreement


def test_a_file_that_comes_late_is_seen(tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text("of an earlier run")
    threading.Timer(0.3, file.write_text, ("a",)).start()
    assert agreement._sees(file, "a")
    monkeypatch.setattr(agreement, "_SECONDS_TO_SEE", 0.0)
    assert not agreement._sees(file, "b")
    assert not agreement._sees(tmp_path / "none", "b")

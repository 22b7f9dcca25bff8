import jax
import jax.numpy as jnp
import pytest

from contrastive_jax.training.program_cache import host, kept_programs


@pytest.fixture(autouse=True)
def quick_ones_too():
    """What takes less than a second to compile is not kept otherwise."""
    setting, before = "jax_persistent_cache_min_compile_time_secs", jax.config.jax_compilation_cache_dir
    seconds = getattr(jax.config, setting)
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update(setting, 0.0)
    yield
    jax.config.update(setting, seconds)
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def hits():
    """Grows by one whenever a program is found."""
    seen = []

    def listen(event, **_):
        if event == "/jax/compilation_cache/cache_hits":
            seen.append(event)

    jax.monitoring.register_event_listener(listen)
    yield seen
    jax.monitoring.unregister_event_listener(listen)


def compile_it():
    return jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x) * 17.25)(jnp.ones((3, 3)))


def test_a_program_is_found_again(tmp_path, hits):
    compile_it()
    assert not list(tmp_path.iterdir())
    with kept_programs(tmp_path / "programs"):
        first = compile_it()
        assert len(hits) == 0
        again = compile_it()
        assert len(hits) > 0
    assert (first == again).all()
    assert any(file.name.endswith("-cache") for file in (tmp_path / "programs" / host()).iterdir())
    assert jax.config.jax_compilation_cache_dir is None


def test_each_folder_has_its_own(tmp_path, hits):
    for name in ("one", "other"):
        with kept_programs(tmp_path / name):
            compile_it()
    assert len(hits) == 0
    assert all((tmp_path / name / host()).is_dir() for name in ("one", "other"))


def test_the_users_own_folder_goes_before(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    with kept_programs(tmp_path / "programs"):
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")


def test_a_damaged_entry_costs_a_warning(tmp_path, hits):
    with kept_programs(tmp_path):
        want = compile_it()
        for file in (tmp_path / host()).glob("*-cache"):
            file.write_bytes(file.read_bytes()[:50])
        with pytest.warns(UserWarning, match="Error reading persistent compilation cache entry"):
            found = compile_it()
    assert len(hits) == 0
    assert (found == want).all()

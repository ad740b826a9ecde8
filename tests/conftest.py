"""One thread a worker, no progress bars, and converted weights kept where the user keeps them."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from hypothesis import settings

settings.register_profile("interpose", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("interpose")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind():
    """Whatever a test does, torch's global modes are as before; and every test starts from the same random state."""
    torch.manual_seed(0)
    before = _global_state()
    yield
    assert _global_state() == before


def _global_state():
    return torch.is_grad_enabled(), torch.get_default_dtype(), torch.backends.mha.get_fastpath_enabled()


@pytest.fixture(scope="module")
def models():
    """Language models by architecture, built once."""
    import interpose as ip
    from architectures import build

    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = ip.LanguageModel(build(kind))
        return made[kind]

    return get


@pytest.fixture
def every_saving(monkeypatch):
    """Sweeps use all savings, however small the network."""
    from interpose.engine import sweep

    monkeypatch.setattr(sweep, "SMALL", 0)
    monkeypatch.setattr(sweep, "SMALLEST", 0)

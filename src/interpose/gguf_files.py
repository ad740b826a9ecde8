"""GGUF files: converted once to full precision, and read from the user's cache folder afterwards."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from .errors import MissingPart


def converted(path: Path) -> Path:
    """The folder of a GGUF file's weights in full precision, made if it is not there yet."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    folder = cache_folder() / f"{path.stem}-{digest}"
    if folder.is_dir():
        return folder
    try:
        import accelerate  # noqa: F401
        import gguf  # noqa: F401
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ImportError as error:
        raise MissingPart(f"A GGUF file needs {error.name}. Install it: pip install 'interpose[lm]'.") from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        tokenizer: Any = AutoTokenizer.from_pretrained(**where)
        tokenizer.save_pretrained(partial)
        quantised = GgufConfig(dequantize=True)
        AutoModelForCausalLM.from_pretrained(**where, quantization_config=quantised).save_pretrained(partial)
        partial.replace(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process has just finished the same conversion
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def cache_folder() -> Path:
    """Where converted weights are kept: $INTERPOSE_CACHE, or interpose in the user's cache folder."""
    if given := os.environ.get("INTERPOSE_CACHE"):
        return Path(given)
    home = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "interpose"

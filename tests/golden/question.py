"""What nnsight, TransformerLens and we are asked: two tiny models, two pairs of prompts, and their answers."""

import torch
from transformers import GPT2Config, LlamaConfig

SIZES = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2}
CONFIGS = {
    "llama": lambda: LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, **SIZES
    ),
    "gpt2": lambda: GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=16, **SIZES),
}
BASE = torch.tensor([[5, 17, 42, 8, 23], [31, 9, 60, 12, 50]])
SOURCE = torch.tensor([[5, 11, 42, 8, 23], [31, 9, 44, 12, 50]])
ANSWERS = torch.tensor([[3, 7], [20, 41]])

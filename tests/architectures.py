"""Tiny random models of the architectures that people use, built offline, with attention that shows its patterns."""

import torch
import transformers as hf

V = 100
SIZES = {"vocab_size": V, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
GROUPED = {**SIZES, "num_key_value_heads": 2}
GPT = {"vocab_size": V, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}

CONFIGS = {
    "gpt2": lambda: hf.GPT2Config(**GPT),
    "gpt_neo": lambda: hf.GPTNeoConfig(
        vocab_size=V,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        max_position_embeddings=64,
        intermediate_size=48,
    ),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**SIZES),
    "gptj": lambda: hf.GPTJConfig(**GPT, rotary_dim=4),
    "opt": lambda: hf.OPTConfig(
        vocab_size=V,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        word_embed_proj_dim=32,
        max_position_embeddings=64,
    ),
    "llama": lambda: hf.LlamaConfig(**GROUPED),
    "mistral": lambda: hf.MistralConfig(**GROUPED),
    "qwen2": lambda: hf.Qwen2Config(**GROUPED),
    "qwen3": lambda: hf.Qwen3Config(**GROUPED, head_dim=8),
    "smollm3": lambda: hf.SmolLM3Config(**GROUPED, pad_token_id=0),
    "olmo2": lambda: hf.Olmo2Config(**GROUPED),
    "phi": lambda: hf.PhiConfig(**SIZES),
    "phi3": lambda: hf.Phi3Config(**GROUPED, pad_token_id=0),
    "gemma": lambda: hf.GemmaConfig(**GROUPED, head_dim=8),
    "gemma2": lambda: hf.Gemma2Config(**GROUPED, head_dim=8),
    "gemma3": lambda: hf.Gemma3TextConfig(**GROUPED, head_dim=8),
    "granite": lambda: hf.GraniteConfig(**GROUPED, residual_multiplier=0.5),
    "falcon": lambda: hf.FalconConfig(
        vocab_size=V, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, ffn_hidden_size=48
    ),
    "falcon_new": lambda: hf.FalconConfig(
        vocab_size=V,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        ffn_hidden_size=48,
        new_decoder_architecture=True,
        num_kv_heads=2,
    ),
    "mixtral": lambda: hf.MixtralConfig(**GROUPED, num_local_experts=4),
    "qwen2_moe": lambda: hf.Qwen2MoeConfig(
        **GROUPED, num_experts=4, moe_intermediate_size=24, shared_expert_intermediate_size=24, num_experts_per_tok=2
    ),
    "qwen3_moe": lambda: hf.Qwen3MoeConfig(
        **GROUPED, head_dim=8, num_experts=4, moe_intermediate_size=24, num_experts_per_tok=2
    ),
    "stablelm": lambda: hf.StableLmConfig(**GROUPED),
    "starcoder2": lambda: hf.Starcoder2Config(**GROUPED),
    "bloom": lambda: hf.BloomConfig(vocab_size=V, hidden_size=32, n_layer=3, n_head=4),
    "mpt": lambda: hf.MptConfig(vocab_size=V, d_model=32, n_layers=3, n_heads=4, max_seq_len=64),
    "cohere": lambda: hf.CohereConfig(**GROUPED),
    "codegen": lambda: hf.CodeGenConfig(**GPT, rotary_dim=4),
    "gpt_bigcode": lambda: hf.GPTBigCodeConfig(**GPT),
    "glm4": lambda: hf.Glm4Config(**GROUPED, head_dim=8, pad_token_id=0),
    "olmo": lambda: hf.OlmoConfig(**GROUPED),
    "llama4": lambda: hf.Llama4TextConfig(
        **GROUPED, head_dim=8, intermediate_size_mlp=48, num_local_experts=2, pad_token_id=0
    ),
    "deepseek_v3": lambda: hf.DeepseekV3Config(
        **SIZES,
        num_key_value_heads=4,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        first_k_dense_replace=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=4,
        qk_nope_head_dim=8,
        v_head_dim=8,
        n_group=1,
        topk_group=1,
    ),
    "mamba": lambda: hf.MambaConfig(vocab_size=V, hidden_size=32, num_hidden_layers=3, state_size=4),
    "bert": lambda: hf.BertConfig(**SIZES),
    "roberta": lambda: hf.RobertaConfig(**SIZES),
    "modernbert": lambda: hf.ModernBertConfig(
        **SIZES, pad_token_id=0, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2
    ),
    "nemotron": lambda: hf.NemotronConfig(**GROUPED),
    "xglm": lambda: hf.XGLMConfig(
        vocab_size=V, d_model=32, ffn_dim=48, num_layers=3, attention_heads=4, max_position_embeddings=64
    ),
    "biogpt": lambda: hf.BioGptConfig(**SIZES, max_position_embeddings=64),
}
NO_ATTENTION = ("mamba",)
PARALLEL = ("gpt_neox", "gptj", "phi", "falcon", "falcon_new", "cohere", "codegen")
ONE_LIST = ("opt", "llama4")
MASKED = ("bert", "roberta", "modernbert")


def build(kind: str, *, seed: int = 0) -> torch.nn.Module:
    """A model with the weights of a seed, larger than usual so that attention is not flat."""
    config = CONFIGS[kind]()
    for name, token in ENDS.items():
        setattr(config, name, token)
    auto = hf.AutoModelForMaskedLM if kind in MASKED else hf.AutoModelForCausalLM
    options = {} if kind in NO_ATTENTION else {"attn_implementation": "eager"}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = auto.from_config(config, **options).eval()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if parameter.ndim > 1 and "embed" not in name:
                    parameter.mul_(4)
    return module

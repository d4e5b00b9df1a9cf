"""Random models of many architectures, as small as each allows, that all speak through the same tokenizer."""

from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from tests.rlhf.tiny_models import CONTEXT, TOKENIZERS

TINY = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT,
}
OLD = {"vocab_size": 320, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
STATES = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 16}
EYES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2} | {
    "image_size": 28,
    "patch_size": 14,
}
STRETCHED = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 10_000.0}

# {name: (model type, what its config says)}
ADOPTED: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", TINY),
    "dynamic rope": (
        "llama",
        TINY | {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}},
    ),
    "longrope": (
        "phi3",
        TINY
        | {"max_position_embeddings": 4 * CONTEXT, "original_max_position_embeddings": CONTEXT}
        | {"rope_parameters": STRETCHED},
    ),
    "a window": ("mistral", TINY | {"sliding_window": 8}),
    "some windows and capped logits": ("gemma2", TINY | {"sliding_window": 8}),
    "alibi": ("bloom", {"vocab_size": 320, "hidden_size": 32, "n_layer": 2, "n_head": 4, "seq_length": CONTEXT}),
    "a narrow trunk": ("opt", TINY | {"ffn_dim": 64, "word_embed_proj_dim": 16}),
    "experts": ("qwen2_moe", TINY | EXPERTS | {"shared_expert_intermediate_size": 16}),
    "a hybrid of linear attention": ("qwen3_5_text", TINY | LINEAR),
    "a hybrid of states": ("falcon_h1", TINY | MAMBA2 | {"mamba_d_ssm": 64}),
    "states alone": ("mamba", STATES | {"state_size": 4, "time_step_rank": 4}),
}
# Of these, the ones whose attention cannot be replaced.
PADDED = {"alibi", "a hybrid of linear attention", "a hybrid of states", "states alone"}
ALSO_ADOPTED: dict[str, tuple[str, dict[str, Any]]] = {
    "text and pictures": (
        "gemma3",
        {"text_config": TINY | {"sliding_window": 8}, "vision_config": EYES, "mm_tokens_per_image": 4}
        | {"image_token_index": 310, "boi_token_index": 311, "eoi_token_index": 312},
    ),
    "gemma3_text": ("gemma3_text", TINY | {"sliding_window": 8}),
    "layers with heads of their own": (
        "gemma4_text",
        TINY | {"sliding_window": 8, "vocab_size_per_layer_input": 320, "hidden_size_per_layer_input": 8}
        | {"num_kv_shared_layers": 0},
    ),
    "cohere2": ("cohere2", TINY | {"sliding_window": 8}),
    "falcon": ("falcon", {**TINY, "alibi": True, "new_decoder_architecture": False} | {"head_dim": None}),
    "mpt": ("mpt", {"vocab_size": 320, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": CONTEXT}),
    "gpt_neo": (
        "gpt_neo",
        {"vocab_size": 320, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": CONTEXT}
        | {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    ),
    "gptj": ("gptj", OLD | {"rotary_dim": 4}),
    "gpt_bigcode": ("gpt_bigcode", OLD),
    "gpt_neox": ("gpt_neox", TINY),
    "phi": ("phi", TINY),
    "stablelm": ("stablelm", TINY),
    "mixtral": ("mixtral", TINY | {"num_local_experts": 4}),
    "a router that gives more": ("phimoe", TINY | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "olmoe": ("olmoe", TINY | {"num_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": ("qwen3_moe", TINY | EXPERTS),
    "experts beside shared ones": (
        "deepseek_v3",
        TINY | {"num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
        | {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 8, "kv_lora_rank": 8}
        | {"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
    ),
    "gpt_oss": ("gpt_oss", TINY | {"sliding_window": 8, "num_local_experts": 4}),
    "qwen3_next": ("qwen3_next", TINY | EXPERTS | LINEAR | {"shared_expert_intermediate_size": 16}),
    "olmo_hybrid": ("olmo_hybrid", TINY | LINEAR),
    "bamba": ("bamba", TINY | MAMBA2 | {"attn_layer_indices": [1], "mamba_expand": 2}),
    "granitemoehybrid": (
        "granitemoehybrid",
        TINY | MAMBA2 | {"layer_types": ["mamba", "attention"], "num_local_experts": 2, "num_experts_per_tok": 1}
        | {"shared_intermediate_size": 16, "intermediate_size": 16},
    ),
    "jamba": (
        "jamba",
        TINY | {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1}
        | {"num_experts": 2, "num_experts_per_tok": 1, "mamba_d_state": 4, "mamba_dt_rank": 4},
    ),
    "mamba2": (
        "mamba2",
        STATES | {"num_heads": 8, "head_dim": 8, "n_groups": 2, "state_size": 8, "chunk_size": 16},
    ),
    "falcon_mamba": ("falcon_mamba", STATES | {"state_size": 4, "time_step_rank": 4}),
    "zamba2": (
        "zamba2",
        TINY | {"n_mamba_heads": 8, "mamba_headdim": 8, "mamba_d_state": 8, "chunk_size": 16, "num_mem_blocks": 1}
        | {"attention_head_dim": 16, "layers_block_type": ["mamba", "hybrid"], "adapter_rank": 4},
    ),
    "lfm2": ("lfm2", TINY | {"layer_types": ["conv", "full_attention"]}),
}  # fmt: skip
# {name: (model type, what its config says, the kind of the refusal)}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "an encoder": ("bert", TINY | {"is_decoder": False}, "selftest_causal"),
    "an encoder and a decoder": (
        "t5",
        {"vocab_size": 320, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
        "not_causal",
    ),
    "what reads no text": ("vit", {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}, "not_causal"),
    "a cache of its own": (
        "rwkv",
        STATES | {"attention_hidden_size": 32, "context_length": CONTEXT, "max_position_embeddings": CONTEXT},
        "selftest_cached",
    ),
    "states that padding gets into": (
        "recurrent_gemma",
        TINY | {"lru_width": 32, "attention_window_size": 8, "num_hidden_layers": 3},
        "selftest_cached",
    ),
    "no cache": ("openai-gpt", OLD, "selftest_cached"),
    "a trunk with a part more when it is loaded by itself": ("bert", TINY | {"is_decoder": True}, "trunk_unknown"),
    "no trunk of its own": (
        "llama4_text",
        TINY | {"num_local_experts": 2, "intermediate_size_mlp": 64, "layer_types": ["full_attention"] * 2},
        "trunk_unknown",
    ),
}  # fmt: skip


def build(model_type: str, options: dict[str, Any], directory: Path) -> Path:
    """Write a random model of this type, whose layers have something to say, with a tokenizer."""
    torch.manual_seed(0)
    tokens = {"pad_token_id": 2, "bos_token_id": 0, "eos_token_id": 1}
    config = CONFIG_MAPPING[model_type](**tokens, **{name: one for name, one in options.items() if one is not None})
    network = _network(config)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1 and parameter.std() < 0.1:
                parameter *= 5  # a fresh network is so faint that a wrong reading would hide in rounding
    network.save_pretrained(directory)
    TOKENIZERS["llama"]().save_pretrained(directory)
    return directory


def _network(config: Any) -> PreTrainedModel:
    for auto in (AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModel):
        if type(config) in auto._model_mapping:
            network: PreTrainedModel = auto.from_config(config)
            return network
    raise AssertionError(f"transformers has no network of the type {config.model_type}")

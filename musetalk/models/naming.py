"""Names of the same tensors in the naming schemes that published files use."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .signatures import Signature

# What a file may hold besides the network: training heads, the decoder half, optimiser averages.
_OWN: dict[str, re.Pattern[str]] = {
    "unet": re.compile(r""),
    "vae": re.compile(r"(encoder|decoder|quant_conv|post_quant_conv)\."),
    "audio_encoder": re.compile(
        r"(conv1|conv2|embed_positions|layers|layer_norm|blocks|ln_post|positional_embedding)\b"
    ),
    "face_parser": re.compile(r"(?!conv_out16\.|conv_out32\.)"),
    "dwpose": re.compile(r"(backbone|head)\."),
    "s3fd": re.compile(r""),
}
_Rules = tuple[tuple[str, str], ...]
_OLD_ATTENTION: _Rules = (
    (r"(\.attentions\.0)\.query\.", r"\1.to_q."),
    (r"(\.attentions\.0)\.key\.", r"\1.to_k."),
    (r"(\.attentions\.0)\.value\.", r"\1.to_v."),
    (r"(\.attentions\.0)\.proj_attn\.", r"\1.to_out.0."),
)
_SINGLE_FILE: _Rules = (
    (r"^encoder\.down\.(\d+)\.block\.", r"encoder.down_blocks.\1.resnets."),
    (r"^encoder\.down\.(\d+)\.downsample\.", r"encoder.down_blocks.\1.downsamplers.0."),
    (r"^decoder\.up\.(\d+)\.block\.", r"decoder.up_blocks.\1.resnets."),
    (r"^decoder\.up\.(\d+)\.upsample\.", r"decoder.up_blocks.\1.upsamplers.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
)
_OPENAI_WHISPER: _Rules = (
    (r"^blocks\.(\d+)\.attn\.query\.", r"layers.\1.self_attn.q_proj."),
    (r"^blocks\.(\d+)\.attn\.key\.", r"layers.\1.self_attn.k_proj."),
    (r"^blocks\.(\d+)\.attn\.value\.", r"layers.\1.self_attn.v_proj."),
    (r"^blocks\.(\d+)\.attn\.out\.", r"layers.\1.self_attn.out_proj."),
    (r"^blocks\.(\d+)\.attn_ln\.", r"layers.\1.self_attn_layer_norm."),
    (r"^blocks\.(\d+)\.mlp\.0\.", r"layers.\1.fc1."),
    (r"^blocks\.(\d+)\.mlp\.2\.", r"layers.\1.fc2."),
    (r"^blocks\.(\d+)\.mlp_ln\.", r"layers.\1.final_layer_norm."),
    (r"^ln_post\.", "layer_norm."),
    (r"^positional_embedding$", "embed_positions.weight"),
)
_RULES: dict[str, _Rules] = {
    "published": (),
    "old": _OLD_ATTENTION,
    "single-file": _SINGLE_FILE,
    "openai": _OPENAI_WHISPER,
}


def names_in_file(signature: Signature, file_names: Iterable[str]) -> dict[str, str]:
    """Our name of every tensor of the network -> its name in the file; other parts are left out."""
    assert signature.kind is not None
    own = _OWN[signature.kind]
    stripped = {
        name[len(signature.prefix) :]: name
        for name in file_names
        if name.startswith(signature.prefix) and own.match(name[len(signature.prefix) :])
    }
    renamed = {_rename(name, _RULES[signature.naming]): original for name, original in stripped.items()}
    return _reverse_up_blocks(renamed) if signature.naming == "single-file" else renamed


def _rename(name: str, rules: _Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _reverse_up_blocks(names: dict[str, str]) -> dict[str, str]:
    """Single files count the decoder's resolutions from fine to coarse, the published names as they run."""
    up_block = re.compile(r"^decoder\.up_blocks\.(\d+)\.")
    levels = [int(match[1]) for match in map(up_block.match, names) if match]
    last = max(levels, default=0)
    return {
        up_block.sub(lambda m: f"decoder.up_blocks.{last - int(m[1])}.", name): file for name, file in names.items()
    }

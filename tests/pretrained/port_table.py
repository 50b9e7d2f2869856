"""What the port's classes offer, name by name, and what becomes of each name here.

`FACES` maps a documented class to its public names: constructor arguments, attributes, methods, and a method's
arguments as `method(argument)`. `test_port_faces.py` reads the same names from the installed port; docs/pretrained.md
shows those that differ. `python tests/pretrained/port_table.py` writes them there.
"""

from __future__ import annotations

from pathlib import Path

Verdict = tuple[str, str]
"""("same" | "differs" | "left out", why)."""

DOCUMENT = Path(__file__).parents[2] / "docs" / "pretrained.md"
BEGIN, END = "<!-- port faces -->", "<!-- end of port faces -->"


def same(*names: str) -> dict[str, Verdict]:
    """Names that mean here what they mean in the port."""
    return dict.fromkeys(names, ("same", ""))


def differs(why: str, *names: str) -> dict[str, Verdict]:
    """Names that are here and do something else in some case."""
    return dict.fromkeys(names, ("differs", why))


def left_out(why: str, *names: str) -> dict[str, Verdict]:
    """Names that are not here."""
    return dict.fromkeys(names, ("left out", why))


LOADING = {
    **differs(
        "what the cache has is taken without asking the hub whether it changed; `force_download` asks",
        "from_pretrained(pretrained_model_name_or_path)",
    ),
    **same(
        "from_pretrained",
        "from_pretrained(cache_dir)",
        "from_pretrained(force_download)",
        "from_pretrained(local_files_only)",
        "from_pretrained(token)",
        "from_pretrained(revision)",
        "save_pretrained",
        "save_pretrained(save_directory)",
        "to_dict",
        "to_json_string",
        "to_json_file",
        "to_json_file(json_file_path)",
    ),
    **differs("true is refused: save the folder, then `hf upload`", "save_pretrained(push_to_hub)"),
    **left_out("nothing is sent to a network unless its own client is run: `hf upload`", "push_to_hub"),
    **left_out("for classes kept beside a checkpoint; no code is loaded from checkpoints", "register_for_auto_class"),
}

CONFIG = {
    **LOADING,
    **same(
        "architectures",
        "attribute_map",
        "base_config_key",
        "chunk_size_feed_forward",
        "dtype",
        "from_dict",
        "from_dict(config_dict)",
        "from_json_file",
        "get_config_dict",
        "get_text_config",
        "id2label",
        "is_encoder_decoder",
        "label2id",
        "model_type",
        "name_or_path",
        "num_labels",
        "output_attentions",
        "output_hidden_states",
        "problem_type",
        "return_dict",
        "sub_configs",
        "to_diff_dict",
        "to_json_file(use_diff)",
        "to_json_string(use_diff)",
        "torch_dtype",
        "update",
        "update_from_string",
        "use_return_dict",
    ),
    **differs("kept as the file has it; none is written, since this is not that library", "transformers_version"),
    **differs("also run at construction: what no network can be built from is refused at once", "validate"),
    **left_out(
        "part of `validate`",
        "validate_architecture",
        "validate_layer_type",
        "validate_output_attentions",
        "validate_token_ids",
    ),
    **left_out(
        "for rotary positions, which BridgeTower has not",
        "convert_rope_params_to_dict",
        "default_rope_type",
        "default_theta",
        "ignore_keys_at_rope_validation",
        "nested_rope_parameter_keys",
        "rope_scaling",
        "standardize_rope_params",
        "validate_rope",
    ),
    **left_out(
        "for layers that differ from one another, which BridgeTower has not",
        "allow_global_per_layer_attribute_access",
        "is_heterogeneous",
        "per_layer_attributes",
        "per_layer_config",
        "serialize_explicit_per_layer_config",
    ),
    **left_out(
        "for spreading one model over devices",
        "base_model_ep_plan",
        "base_model_fsdp_plan",
        "base_model_pp_plan",
        "base_model_tp_plan",
    ),
    **left_out("for generating text", "get_mtp_config"),
    **left_out(
        "machinery of the port's own registry and files",
        "default_config_fields",
        "dict_dtype_to_str",
        "extra_config_files",
        "extra_files",
        "is_custom_code",
        "is_remote_code",
        "sub_configs_defaults",
    ),
}

FACES: dict[str, dict[str, Verdict]] = {
    "BridgeTowerConfig": {
        **CONFIG,
        **same(
            "hidden_act",
            "hidden_size",
            "init_layernorm_from_vision_encoder",
            "initializer_factor",
            "layer_norm_eps",
            "link_tower_type",
            "num_attention_heads",
            "share_cross_modal_transformer_layers",
            "tie_word_embeddings",
            "text_config",
            "vision_config",
        ),
        **differs("at most the depth of either tower, refused at construction", "num_hidden_layers"),
        **differs("works; the port's network crashes with it", "share_link_tower_layers"),
    },
    "BridgeTowerTextConfig": {
        **CONFIG,
        **same(
            "attention_probs_dropout_prob",
            "bos_token_id",
            "eos_token_id",
            "hidden_act",
            "hidden_dropout_prob",
            "hidden_size",
            "initializer_factor",
            "intermediate_size",
            "layer_norm_eps",
            "max_position_embeddings",
            "num_attention_heads",
            "num_hidden_layers",
            "pad_token_id",
            "type_vocab_size",
            "use_cache",
            "vocab_size",
        ),
        **differs("true is refused: the text tower is an encoder", "is_decoder", "add_cross_attention"),
    },
    "BridgeTowerVisionConfig": {
        **CONFIG,
        **same(
            "image_size",
            "initializer_factor",
            "layer_norm_eps",
            "num_channels",
            "num_hidden_layers",
            "patch_size",
            "remove_last_layer",
            "share_layernorm",
            "stop_gradient",
        ),
        **differs("a multiple of 64, the width of a head; others are refused", "hidden_size"),
    },
    "BridgeTowerImageProcessorPil": {
        **LOADING,
        **same(
            "backend",
            "default_to_square",
            "do_center_crop",
            "do_normalize",
            "do_pad",
            "do_rescale",
            "do_resize",
            "from_dict",
            "from_dict(image_processor_dict)",
            "from_json_file",
            "get_image_processor_dict",
            "image_mean",
            "image_std",
            "input_data_format",
            "model_input_names",
            "preprocess",
            "resample",
            "rescale_factor",
            "return_tensors",
            "size_divisor",
            "__call__",
        ),
        **differs(
            "every mode of picture, turned upright, and paths and bytes, too; the port takes RGB as it lies",
            "__call__(images)",
            "preprocess(images)",
        ),
        **differs(
            "without one it is `size`, as the published checkpoints mean it; the port takes 288 pixels, and so crops "
            "those of 294. A height and a width are taken, too",
            "crop_size",
        ),
        **differs("height and width resize straight to them; the port raises", "size"),
        **differs("done; the port's Pillow path passes it over", "data_format", "pad_size"),
        **differs(
            "taken without effect: there is one way, by Pillow, and pictures always become RGB",
            "device",
            "disable_grouping",
            "do_convert_rgb",
            "image_seq_length",
        ),
        **left_out("for inputs beside the images, which BridgeTower has not", "preprocess(image_like_kwargs)"),
        **left_out(
            "one step alone is a call with the others switched off, such as `do_rescale=False`",
            "center_crop",
            "convert_to_rgb",
            "normalize",
            "pad",
            "process_image",
            "rescale",
            "resize",
        ),
        **left_out("addresses are not fetched; images are read from paths within a call", "fetch_images"),
        **left_out("typing machinery of the port", "valid_kwargs"),
    },
    "BridgeTowerProcessor": {
        **LOADING,
        **same(
            "__call__",
            "__call__(images)",
            "__call__(text)",
            "image_processor",
            "tokenizer",
            "batch_decode",
            "decode",
            "model_input_names",
            "images_kwargs",
            "text_kwargs",
            "text_kwargs(add_special_tokens)",
            "text_kwargs(max_length)",
            "text_kwargs(pad_to_multiple_of)",
            "text_kwargs(padding)",
            "text_kwargs(padding_side)",
            "text_kwargs(return_attention_mask)",
            "text_kwargs(return_length)",
            "text_kwargs(return_offsets_mapping)",
            "text_kwargs(return_special_tokens_mask)",
            "text_kwargs(return_tensors)",
            "text_kwargs(return_token_type_ids)",
            "text_kwargs(verbose)",
        ),
        **differs(
            "without a tokenizer_config.json the limit is the model's 512 tokens; the port then cuts nothing",
            "text_kwargs(truncation)",
        ),
        **left_out("BridgeTower takes single images and texts", "__call__(videos)", "__call__(audio)"),
        **left_out("BridgeTower takes single images and texts", "videos_kwargs", "audio_kwargs"),
        **left_out(
            "one text at a time, given whole",
            "text_kwargs(is_split_into_words)",
            "text_kwargs(return_overflowing_tokens)",
            "text_kwargs(stride)",
            "text_kwargs(text_pair)",
            "text_kwargs(text_pair_target)",
            "text_kwargs(text_target)",
        ),
        **left_out(
            "for models that mix placeholders of images into the text, or chat",
            "all_special_multimodal_tokens",
            "apply_chat_template",
            "audio_token_ids",
            "create_mm_token_type_ids",
            "get_text_with_replacements",
            "image_token_ids",
            "parse_response",
            "post_process_image_text_to_text",
            "post_process_multimodal_output",
            "replace_audio_token",
            "replace_image_token",
            "replace_video_token",
            "return_mm_token_type_ids",
            "return_text_replacement_offsets",
            "text_kwargs(return_mm_token_type_ids)",
            "text_kwargs(return_text_replacement_offsets)",
            "text_kwargs(sanitize_control_tokens)",
            "video_token_ids",
        ),
        **left_out(
            "machinery of the port's own files and checks",
            "check_argument_for_proper_class",
            "from_args_and_dict",
            "get_attributes",
            "get_possibly_dynamic_module",
            "get_processor_dict",
            "prepare_inputs_layout",
            "skip_tensor_conversion",
            "unused_input_names",
            "valid_processor_kwargs",
            "validate_init_kwargs",
            "validate_inputs",
        ),
    },
}


MODEL = {
    **same(
        "activation_checkpointing_disable",
        "activation_checkpointing_enable",
        "base_model",
        "base_model_prefix",
        "can_generate",
        "config_class",
        "device",
        "disable_input_require_grads",
        "dtype",
        "enable_input_require_grads",
        "from_pretrained",
        "from_pretrained(cache_dir)",
        "from_pretrained(config)",
        "from_pretrained(force_download)",
        "from_pretrained(ignore_mismatched_sizes)",
        "from_pretrained(local_files_only)",
        "from_pretrained(revision)",
        "from_pretrained(token)",
        "get_input_embeddings",
        "get_memory_footprint",
        "get_output_embeddings",
        "gradient_checkpointing_disable",
        "gradient_checkpointing_enable",
        "input_modalities",
        "is_activation_checkpointing",
        "is_gradient_checkpointing",
        "main_input_name",
        "num_parameters",
        "resize_token_embeddings",
        "resize_token_embeddings(mean_resizing)",
        "resize_token_embeddings(new_num_tokens)",
        "resize_token_embeddings(pad_to_multiple_of)",
        "save_pretrained",
        "save_pretrained(is_main_process)",
        "save_pretrained(max_shard_size)",
        "save_pretrained(save_directory)",
        "save_pretrained(state_dict)",
        "set_input_embeddings",
        "set_output_embeddings",
        "tie_weights",
        "forward(attention_mask)",
        "forward(image_embeds)",
        "forward(input_ids)",
        "forward(pixel_mask)",
        "forward(pixel_values)",
        "forward(token_type_ids)",
    ),
    **differs(
        "what the cache has is taken without asking the hub whether it changed; `force_download` asks",
        "from_pretrained(pretrained_model_name_or_path)",
    ),
    **differs("without effect: safetensors go first, pickles run no code", "from_pretrained(use_safetensors)"),
    **differs("without effect: pickles never run code", "from_pretrained(weights_only)"),
    **differs("true is refused: save the folder, then `hf upload`", "save_pretrained(push_to_hub)"),
    **differs("refused even beside input_ids, which the port lets win in silence", "forward(inputs_embeds)"),
    **differs("true; the port refuses to make activations again", "supports_gradient_checkpointing"),
    **left_out("nothing is sent to a network unless its own client is run: `hf upload`", "push_to_hub"),
    **left_out("for classes kept beside a checkpoint; no code is loaded from checkpoints", "register_for_auto_class"),
    **left_out("no code is loaded from checkpoints", "is_custom_code", "is_remote_code"),
    **left_out(
        "adapters are `peft`'s: `get_peft_model(model, ...)`",
        "active_adapters",
        "add_adapter",
        "delete_adapter",
        "disable_adapters",
        "enable_adapters",
        "enable_peft_hotswap",
        "get_adapter_state_dict",
        "load_adapter",
        "save_pretrained(save_peft_format)",
        "set_adapter",
    ),
    **left_out(
        "for spreading one model over devices",
        "barrier_after_gathered_checkpoint_save",
        "ep_plan",
        "fsdp_plan",
        "fsdp_size",
        "gather_sharded_state_dict_for_save",
        "init_parallel_plans",
        "is_distributed_loading_by_transformers",
        "maybe_distribute_model",
        "pp_plan",
        "prepare_distribute_model",
        "save_distributed_checkpoint",
        "save_pretrained(distributed_checkpoint)",
        "should_save_on_this_rank",
        "supports_context_parallel",
        "supports_pp_plan",
        "supports_tp_plan",
        "tp_plan",
        "tp_size",
    ),
    **left_out(
        "there is one implementation of attention, chosen by what the device is fast at",
        "from_pretrained(fusion_config)",
        "get_compiled_call",
        "get_correct_attn_implementation",
        "get_correct_experts_implementation",
        "get_experts_implementation",
        "is_backend_compatible",
        "set_attn_implementation",
        "set_experts_implementation",
        "set_use_kernels",
        "use_kernels",
    ),
    **left_out(
        "for other kinds of model",
        "dequantize",
        "generation_config_class",
        "get_decoder",
        "get_encoder",
        "get_position_embeddings",
        "resize_position_embeddings",
        "set_decoder",
        "set_encoder",
    ),
    **left_out("weights are read straight into place", "from_pretrained(disable_mmap)"),
    **left_out("one file name for weights, the hub's plain one", "save_pretrained(variant)"),
    **left_out("nothing is sent that would need one", "save_pretrained(token)"),
    **left_out("what is saved has the hub's names already", "save_pretrained(save_original_format)"),
    **left_out(
        "machinery of the port's own loading and registry",
        "add_model_tags",
        "can_record_outputs",
        "dummy_inputs",
        "get_expanded_tied_weights_keys",
        "get_init_context",
        "get_parameter_or_buffer",
        "init_weights",
        "initialize_weights",
        "loss_function",
        "mark_tied_weights_as_initialized",
        "model_tags",
        "named_non_persistent_buffers",
        "post_init",
        "retrieve_modules_from_names",
        "warn_if_padding_and_no_attention_mask",
    ),
}

FACES["BridgeTowerModel"] = {
    **MODEL,
    **same(
        "get_cls_features",
        "forward(image_token_type_idx)",
        "forward(interpolate_pos_encoding)",
        "forward(labels)",
    ),
}
FACES["BridgeTowerForContrastiveLearning"] = {**MODEL, **same("forward(return_loss)")}
FACES["BridgeTowerForMaskedLM"] = {
    **MODEL,
    **differs("without a label that counts the loss is 0, in the port NaN", "forward(labels)"),
}
FACES["BridgeTowerForImageAndTextRetrieval"] = {**MODEL, **same("forward(labels)")}


def rendered() -> str:
    """The table of docs/pretrained.md: how many names of each class are the same, then each reason with its names."""
    lines = [BEGIN, "", "| class | its names | the same |", "|---|---|---|"]
    rows: dict[tuple[str, str, str], list[str]] = {}
    for face, names in FACES.items():
        count = sum(verdict == "same" for verdict, _ in names.values())
        lines.append(f"| `{face}` | {len(names)} | {count} |")
        groups: dict[Verdict, list[str]] = {}
        for name, verdict in names.items():
            if verdict[0] != "same":
                groups.setdefault(verdict, []).append(f"`{name}`")
        for (verdict, why), members in groups.items():
            rows.setdefault((verdict, ", ".join(sorted(members)), why), []).append(face)
    lines += ["", "| class | names | verdict | why |", "|---|---|---|---|"]
    for (verdict, members, why), faces in sorted(rows.items()):
        shown = "all" if len(faces) == len(FACES) else ", ".join(f"`{face}`" for face in faces)
        lines.append(f"| {shown} | {members} | {verdict} | {why} |")
    return "\n".join([*lines, "", END])


def main() -> None:
    """Write the table into docs/pretrained.md."""
    text = DOCUMENT.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    DOCUMENT.write_text(before + rendered() + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    main()

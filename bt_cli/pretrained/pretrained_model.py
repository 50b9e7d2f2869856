"""What the documented model classes share: files in and out, the usual questions, and the fast network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from bt_cli.bridgetower.configuration import BridgeTowerConfig as NetworkConfig
from bt_cli.bridgetower.cross_modal import Wanted
from bt_cli.bridgetower.network import BridgeTower
from bt_cli.checkpoints.hub_layout import PREFIX, TIED
from bt_cli.checkpoints.meta_network import Undrawn
from bt_cli.checkpoints.model_card import write_card
from bt_cli.checkpoints.save_folder import refuse_push
from bt_cli.checkpoints.saving import SHARD_BYTES, HubTensor, write_checkpoint
from bt_cli.errors import BadInput, Misuse
from bt_cli.pretrained.batch_input import BatchInput
from bt_cli.pretrained.configuration import BridgeTowerConfig
from bt_cli.pretrained.fast_network import Encoded, FastNetwork, in_ordinary_context, is_ordinary, structure_of
from bt_cli.pretrained.initialisation import STD, initialise
from bt_cli.pretrained.late_gradient import with_late_gradient
from bt_cli.pretrained.outputs import ModelOutput
from bt_cli.pretrained.weights import device_of, read_weights, where_from

Output = TypeVar("Output", bound=ModelOutput)


class BridgeTowerPreTrainedModel(nn.Module):
    """The base of the four models.

    A model is an ordinary `torch.nn.Module` whose parameters and modules have the names of the hub's files. `config` is
    its BridgeTowerConfig. `use_fast_network` (True) lets results come from the packed network where that is the same
    but faster; see `uses_fast_network` for when. Set it to False where the memory of a second copy of the weights is
    dearer than the time.
    """

    config_class: ClassVar[type[BridgeTowerConfig]] = BridgeTowerConfig
    base_model_prefix: ClassVar[str] = "bridgetower"
    main_input_name: ClassVar[str] = "input_ids"
    input_modalities: ClassVar[tuple[str, ...]] = ("image", "text")
    supports_gradient_checkpointing: ClassVar[bool] = True
    heads: ClassVar[frozenset[str]] = frozenset()
    """The packed network's heads that take part in the results."""

    config: BridgeTowerConfig

    _structure: tuple[type, ...]

    def __init__(self, config: BridgeTowerConfig | NetworkConfig) -> None:
        super().__init__()
        if not isinstance(config, NetworkConfig):
            raise BadInput(
                f"{type(self).__name__} is made of a BridgeTowerConfig, not of {type(config).__name__}; "
                f"for a checkpoint use {type(self).__name__}.from_pretrained(...)"
            )
        if isinstance(config, BridgeTowerConfig):
            self.config = config
        else:
            self.config = BridgeTowerConfig.from_dict(config.to_dict())
        self.name_or_path: str = self.config.name_or_path
        self.use_fast_network = True
        self._fast = FastNetwork()
        self._recompute = False

    def _built(self) -> None:
        """To be called when all modules are there: draws their parameters, and remembers how they were built."""
        new = [self] if self.base_model is self else [each for each in self.children() if each is not self.base_model]
        for each in new:
            initialise(each, self.config)
        self.tie_weights()
        self._structure = structure_of(self)

    # -- files ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        config: BridgeTowerConfig | str | os.PathLike[str] | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        subfolder: str = "",
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device_map: Any = None,
        state_dict: Mapping[str, Tensor] | None = None,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        attn_implementation: str | None = None,
        use_safetensors: bool | None = None,
        low_cpu_mem_usage: bool | None = None,
        weights_only: bool = True,
        trust_remote_code: bool | None = None,
        **changes: Any,
    ) -> Any:
        """A checkpoint's model, in eval mode.

        Args:
            pretrained_model_name_or_path: A bundled name (`tiny`), a hub name, or a folder in the hub's layout, with
                safetensors or pickled weights, whole or in shards.
            config: Another configuration than the checkpoint's: an object, or where it lies.
            revision: Branch, tag or commit on the hub.
            token: The hub's token; None and True stand for the stored one.
            cache_dir: Another cache folder than the hub's own.
            local_files_only: Never ask the hub.
            force_download: Fetch from the hub even what the cache has.
            subfolder: The folder inside the checkpoint that holds its files.
            dtype: What the parameters become: a `torch.dtype` or its name; None and "auto" are what is stored.
            torch_dtype: The same by its older name.
            device_map: Where to: a device, or "auto" for the accelerator where there is one, else the CPU. A model is
                never split.
            state_dict: Tensors to take instead of the checkpoint's.
            ignore_mismatched_sizes: Draw a tensor of another shape anew instead of raising.
            output_loading_info: Give `(model, report)`, the report a dict of missing_keys, unexpected_keys,
                mismatched_keys and error_msgs.
            attn_implementation, use_safetensors, low_cpu_mem_usage, weights_only, trust_remote_code: Accepted, and
                without effect: there is one implementation, which reads safetensors first, never twice, and runs no
                code from files.
            changes: Values of the configuration to change.

        A head that the checkpoint lacks is drawn anew, with a warning, to be trained.

        Raises:
            NotFound: No such folder or file.
            UnknownModel: No checkpoint of that name.
            Offline: The hub is needed and can't be asked.
            DownloadFailed: The hub refused.
            BadConfig: The configuration is broken.
            CheckpointMismatch: Tensors that are missing or of another shape, by name.
            NoDevice: A device that isn't there.
        """
        device = device_of(device_map)
        where = where_from(
            pretrained_model_name_or_path,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
            subfolder=subfolder,
        )
        config = _config_for(where.folder if config is None else config, changes)
        config.name_or_path = os.fspath(pretrained_model_name_or_path)
        where.complete(config)
        wanted = dtype if dtype is not None else torch_dtype
        stored = where.dtype if wanted in (None, "auto") else _dtype(wanted)
        with torch.device("meta"), Undrawn():
            model = cls(config)
        report = read_weights(model, config, where, stored, device, state_dict, ignore_mismatched_sizes, cls.__name__)
        config.dtype = stored
        model.tie_weights()
        model.eval()
        return (model, report.as_dict()) if output_loading_info else model

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        push_to_hub: bool = False,
        max_shard_size: int | str = SHARD_BYTES,
        safe_serialization: bool = True,
        save_function: Any = None,
    ) -> None:
        """Write config.json, the weights as safetensors, and a model card where the folder has none.

        With `is_main_process` off nothing is written: of several processes one saves. `max_shard_size` is bytes, or
        text such as "2GB"; weights beyond it go into several files. `state_dict` is written instead of the model's
        own. `save_function` is without effect.

        Raises:
            Unwritable: The folder can't be written.
            Misuse: Pickled weights, or an upload, were asked for.
        """
        refuse_push(push_to_hub)
        if not safe_serialization:
            raise Misuse("weights are written as safetensors, which every reader knows; leave safe_serialization on")
        if not is_main_process:
            return
        tied = TIED if self.config.tie_word_embeddings else {}
        values = self.state_dict() if state_dict is None else dict(state_dict)
        tensors = {
            name: HubTensor(tuple(value.shape), partial(_at_hand, value))
            for name, value in values.items()
            if not (name in tied and tied[name] in values)
        }
        write_checkpoint(
            save_directory, self.config, tensors, dtype=self.dtype, shard_bytes=_shard_bytes(max_shard_size)
        )
        write_card(Path(save_directory).expanduser(), self.config, heads=set(self.heads), base_model=self.name_or_path)

    # -- the usual questions -------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return next(each.dtype for each in self.parameters() if each.is_floating_point())

    @property
    def base_model(self) -> nn.Module:
        """The model without its head."""
        inner = getattr(self, self.base_model_prefix, self)
        assert isinstance(inner, nn.Module)
        return inner

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """How many numbers the parameters hold; a tied one counts once."""
        tables = {id(each.weight) for each in self.modules() if exclude_embeddings and isinstance(each, nn.Embedding)}
        return sum(
            each.numel()
            for each in self.parameters()
            if id(each) not in tables and (each.requires_grad or not only_trainable)
        )

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Bytes of the parameters, and with `return_buffers` of the buffers; without those of the packed network."""
        held = [*self.parameters(), *(self.buffers() if return_buffers else ())]
        return sum(each.numel() * each.element_size() for each in held)

    def can_generate(self) -> bool:
        """False: no text is generated word by word."""
        return False

    def get_input_embeddings(self) -> nn.Module:
        """The table of words."""
        embeddings = self.base_model.get_submodule("text_model.embeddings.word_embeddings")
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another table of words in its place."""
        self.base_model.get_submodule("text_model.embeddings").word_embeddings = value

    def get_output_embeddings(self) -> nn.Module | None:
        """The product from features to words, of a model with such a head."""
        return None

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Put another in its place."""
        raise Misuse(f"{type(self).__name__} has no output embeddings; BridgeTowerForMaskedLM does")

    def tie_weights(self) -> None:
        """Let input and output embeddings be one tensor, where the configuration says so."""
        output = self.get_output_embeddings()
        if output is not None and self.config.tie_word_embeddings:
            output.weight = self.get_input_embeddings().weight

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Module:
        """Another size of the vocabulary, here and in the configuration; returns the table of words.

        Rows that were there stay. New ones start near the mean of the old, or with `mean_resizing` off as new
        parameters do.
        """
        old = self.get_input_embeddings().weight
        assert isinstance(old, Tensor)
        count = len(old) if new_num_tokens is None else new_num_tokens
        if pad_to_multiple_of:
            count = -(-count // pad_to_multiple_of) * pad_to_multiple_of
        least = self.config.text_config.pad_token_id + 1
        if count < least:
            raise BadInput(f"{count} tokens are too few: the vocabulary needs its padding token, number {least - 1}")
        if count != len(old):
            self._resize_rows(self.get_input_embeddings(), count, mean_resizing)
            self._resize_output(count, mean_resizing)
            self.config.text_config.vocab_size = count
            self.tie_weights()
        return self.get_input_embeddings()

    def _resize_output(self, count: int, mean_resizing: bool) -> None:
        """The same for a head that has rows by words."""

    def _resize_rows(self, module: nn.Module, count: int, mean_resizing: bool) -> None:
        old = module.weight
        assert isinstance(old, nn.Parameter)
        with torch.no_grad():
            new = old.new_empty(count, old.shape[1])
            kept = min(count, len(old))
            new[:kept] = old[:kept]
            if count > kept:
                std = STD * self.config.text_config.initializer_factor
                drawn = torch.randn(count - kept, old.shape[1], device=old.device, dtype=torch.float32)
                # Not all the same: rows that are equal get equal gradients wherever they stand in equal places.
                start = old.float().mean(dim=0) + drawn * std * 1e-3 if mean_resizing else drawn * std
                new[kept:] = start.to(old.dtype)
        module.weight = nn.Parameter(new, requires_grad=old.requires_grad)
        for attribute in ("num_embeddings", "out_features"):
            if hasattr(module, attribute):
                setattr(module, attribute, count)

    # -- training ------------------------------------------------------------------------------------------------

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether layers' activations are made again in the backward pass of training."""
        return any(each._recompute for each in self.modules() if isinstance(each, BridgeTowerPreTrainedModel))

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """Trade time for memory in training. `use_reentrant` in the argument has to be False, the only way here."""
        options = dict(gradient_checkpointing_kwargs or {})
        if options.pop("use_reentrant", False) or options:
            raise BadInput("gradient checkpointing knows one way here, use_reentrant=False; leave the argument out")
        self._set_recompute(True)

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations again."""
        self._set_recompute(False)

    @property
    def is_activation_checkpointing(self) -> bool:
        """`is_gradient_checkpointing` by its newer name."""
        return self.is_gradient_checkpointing

    def activation_checkpointing_enable(self, activation_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """`gradient_checkpointing_enable` by its newer name."""
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs)

    def activation_checkpointing_disable(self) -> None:
        """`gradient_checkpointing_disable` by its newer name."""
        self.gradient_checkpointing_disable()

    def _set_recompute(self, on: bool) -> None:
        for each in self.modules():
            if isinstance(each, BridgeTowerPreTrainedModel):
                each._recompute = on

    def enable_input_require_grads(self) -> None:
        """Let embedded ids require gradients, for adapters on a frozen model with gradient checkpointing."""
        self._input_hook = self.get_input_embeddings().register_forward_hook(_require_grad)

    def disable_input_require_grads(self) -> None:
        """Take that back."""
        self._input_hook.remove()

    # -- the fast network ----------------------------------------------------------------------------------------

    def uses_fast_network(self) -> bool:
        """Whether a call at this moment may take its results from the packed network.

        It may on the CPU, in float32 and bfloat16, where every module is in eval mode, built as the class builds it
        and without hooks, and where neither a compiler nor autocast nor a functional transform is at work. A call that
        asks for hidden states or attentions, or brings image_embeds or its own image_token_type_idx, takes the plain
        way. So does the first call after the weights have changed.
        """
        return self.use_fast_network and in_ordinary_context([]) and is_ordinary(self, self._structure)

    def drop_fast_network(self) -> None:
        """Give its memory back, and let it be made anew from the weights when it is next of use."""
        self._fast.drop()

    def _wants(self, hidden_states: bool | None, attentions: bool | None) -> tuple[bool, bool]:
        """Whether a call wants hidden states and attentions; where it doesn't say, the configuration does."""
        hidden = self.config.output_hidden_states if hidden_states is None else hidden_states
        return bool(hidden), bool(self.config.output_attentions if attentions is None else attentions)

    def _returned(self, output: Output, return_dict: bool | None) -> Output | tuple[Any, ...]:
        as_mapping = self.config.return_dict if return_dict is None else return_dict
        return output if as_mapping else output.to_tuple()

    def _hub_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters by the names they have in a file that holds a head as well."""
        prefix = PREFIX if self.base_model is self else ""
        return {prefix + name: each for name, each in self.named_parameters(remove_duplicate=False)}

    def _fast_results(
        self,
        batch: BatchInput,
        wanted: Wanted,
        finish: Callable[[BridgeTower, Encoded], tuple[Tensor, ...]],
        plain: Callable[[], tuple[Tensor, ...]],
    ) -> tuple[Tensor, ...] | None:
        """What the packed network makes of a batch, None where the plain one has to.

        `finish` makes the results of what was encoded; `plain` gives the same from the model's own modules, for a
        backward pass.
        """
        tensors = [batch.input_ids, batch.keep, batch.pixel_values]
        usual = batch.pixel_values is not None and batch.image_type == 1 and len(batch.input_ids) > 0
        if not usual or not in_ordinary_context(tensors) or not self.uses_fast_network():
            return None
        if batch.has_unseen_text:  # the packed products would make NaN of it
            return None
        parameters = self._hub_parameters()
        network = self._fast.network_for(self.config, parameters, self.heads)
        if network is None:
            return None
        encoded = self._fast.encode(network, batch, wanted, embeds="itc" in self.heads)
        with torch.inference_mode():
            results = finish(network, encoded)
        results = tuple(each.to(self.dtype) for each in results)
        if torch.is_inference_mode_enabled():
            return results
        results = tuple(each.clone() for each in results)  # what inference mode made may be in no graph
        inputs = [each for each in parameters.values() if each.requires_grad] + batch.differentiable
        if not torch.is_grad_enabled() or not inputs:
            return results
        inputs = list({id(each): each for each in inputs}.values())

        def again() -> tuple[Tensor, ...]:
            with _in_eval_mode(self):
                return plain()

        return with_late_gradient(results, again, inputs)


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    """The mode in which the results were computed, whatever it is by now."""
    trained = [each for each in model.modules() if each.training]
    for each in trained:
        each.training = False
    try:
        yield
    finally:
        for each in trained:
            each.training = True


def _require_grad(module: nn.Module, inputs: Any, output: Tensor) -> None:
    output.requires_grad_(True)


def _config_for(source: Any, changes: dict[str, Any]) -> BridgeTowerConfig:
    if isinstance(source, NetworkConfig):
        values, unused = BridgeTowerConfig.from_dict(source.to_dict(), return_unused_kwargs=True, **changes)
    else:
        values, unused = BridgeTowerConfig.from_pretrained(source, return_unused_kwargs=True, **changes)
    if unused:
        raise Misuse(f"from_pretrained knows no argument called {', '.join(sorted(unused))}")
    config: BridgeTowerConfig = values
    return config


def _dtype(value: torch.dtype | str | None) -> torch.dtype:
    found = value if isinstance(value, torch.dtype) else getattr(torch, str(value).removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise BadInput(f"dtype {value!r} is no kind of number for weights; use float32, bfloat16, float16 or 'auto'")
    return found


def _at_hand(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous()


_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def _shard_bytes(size: int | str) -> int:
    if isinstance(size, int):
        return size
    text = size.strip().upper()
    for unit in sorted(_UNITS, key=len, reverse=True):
        number = text.removesuffix(unit).strip()
        if text.endswith(unit) and number.replace(".", "", 1).isdigit():
            return int(float(number) * _UNITS[unit])
    raise BadInput(f"max_shard_size {size!r} is no size; write bytes as a number, or text such as '5GB'")

"""What the three documented configuration classes share, see `bt_cli.pretrained.configuration`."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bt_cli.bridgetower.configuration import ConfigSection, read_object, with_fields_in_place
from bt_cli.checkpoints.save_folder import made_folder, refuse_push
from bt_cli.checkpoints.settings_files import WHERE, settings_folder
from bt_cli.errors import BadConfig
from bt_cli.files.atomic_write import write_whole
from bt_cli.files.shown_path import shown_path
from bt_cli.hub.hub_cache import CONFIG

if TYPE_CHECKING:
    from typing import Self

    import torch

# How files and arguments may also call what has another name here.
_OTHER_NAMES = {
    "torch_dtype": "dtype",
    "_name_or_path": "name_or_path",
    "_output_attentions": "output_attentions",
    "attn_implementation": "_attn_implementation",
}
# Fields of the network that may be None; for all others None stands for the default, as null does in the hub's files.
_MAY_BE_NONE = {"contrastive_hidden_size", "cross_layer_norm_eps", "mlm_layer_norm_eps"}


@dataclass(init=False, repr=False, eq=False)
class PretrainedConfig(ConfigSection):
    """What all three classes share: construction by keyword, attributes for unknown names, files, equality.

    The fields here change nothing about the network. `output_attentions`, `output_hidden_states` and `return_dict`
    are what a model's `forward` does where its call doesn't say; the others are kept for those who read them.
    """

    model_type: ClassVar[str] = ""
    base_config_key: ClassVar[str] = ""
    sub_configs: ClassVar[dict[str, type[Any]]] = {}
    attribute_map: ClassVar[dict[str, str]] = {}

    name_or_path: str = field(default="", kw_only=True)
    transformers_version: str | None = field(default=None, kw_only=True)
    architectures: list[str] | None = field(default=None, kw_only=True)
    output_attentions: bool = field(default=False, kw_only=True)
    output_hidden_states: bool = field(default=False, kw_only=True)
    return_dict: bool = field(default=True, kw_only=True)
    chunk_size_feed_forward: int = field(default=0, kw_only=True)
    is_encoder_decoder: bool = field(default=False, kw_only=True)
    id2label: dict[int, str] | None = field(default=None, kw_only=True)
    label2id: dict[str, int] | None = field(default=None, kw_only=True)
    problem_type: str | None = field(default=None, kw_only=True)

    def __init__(self, **values: Any) -> None:
        """Every documented argument by its name, with the documented default; the rest becomes attributes.

        Raises:
            BadConfig: An impossible value, by name.
        """
        object.__setattr__(self, "_attn_implementation", None)
        object.__setattr__(self, "_dtype", None)
        self.extra = dict(values.pop("extra", None) or {})
        values = self._by_current_names(values)
        labels = values.pop("num_labels", None)
        for item in fields(self):
            if item.name != "extra":
                setattr(self, item.name, _value_or_default(item, values.pop(item.name, None)))
        for name in ("dtype", "_attn_implementation"):
            if values.get(name) is not None:
                setattr(self, name, values[name])
            values.pop(name, None)
        values.pop("model_type", None)
        self.extra.update(values)
        self._settle_labels(labels)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Checks every value; the class beside this one in the order of inheritance does it."""
        raise NotImplementedError

    @classmethod
    def _by_current_names(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values under the names they have today: those of old files and arguments are translated."""
        names = {**cls.legacy, **_OTHER_NAMES}
        current = {name: value for name, value in values.items() if name not in names}
        for name, value in values.items():
            if name in names and current.get(names[name]) is None:
                current[names[name]] = value
        return current

    def validate(self) -> None:
        """Look again at every value, after some were set. Raises BadConfig for an impossible one, by name."""
        for name in self.sub_configs:
            getattr(self, name).validate()
        self.__post_init__()

    # -- attributes ----------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        """A value that the class has no field for: reached only where Python finds nothing else of that name."""
        extra = self.__dict__.get("extra", {})
        if name in extra and not name.startswith("__"):
            return extra[name]
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or name in self.__dataclass_fields__ or hasattr(type(self), name):
            if name in self.sub_configs:
                value = _section(self.sub_configs[name], name, value)
            object.__setattr__(self, name, value)
        else:
            self.extra[name] = value

    def __delattr__(self, name: str) -> None:
        if name in self.extra:
            del self.extra[name]
        else:
            object.__delattr__(self, name)

    def __iter__(self) -> Iterator[str]:
        """The names of all values, so that `"hidden_size" in config` works."""
        return iter([*(item.name for item in fields(self) if item.name != "extra"), "dtype", *self.extra])

    @property
    def dtype(self) -> torch.dtype | None:
        """What the weights are stored as, None where nothing says. Set it to a `torch.dtype` or its name."""
        if self._dtype is None:
            return None
        import torch

        dtype: torch.dtype = getattr(torch, self._dtype)
        return dtype

    @dtype.setter
    def dtype(self, value: Any) -> None:
        name = None if value is None else str(value).removeprefix("torch.")
        if name is not None and name not in _DTYPES:
            raise BadConfig(
                f"config.json: {self.where}dtype is {value!r:.100}, but has to be one of {', '.join(_DTYPES)}"
            )
        object.__setattr__(self, "_dtype", name)

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """`dtype` by its older name."""
        return self.dtype

    @torch_dtype.setter
    def torch_dtype(self, value: Any) -> None:
        self.dtype = value

    @property
    def _name_or_path(self) -> str:
        """`name_or_path` as config.json calls it."""
        return self.name_or_path

    @_name_or_path.setter
    def _name_or_path(self, value: str) -> None:
        self.name_or_path = value

    @property
    def use_return_dict(self) -> bool:
        """`return_dict` by its older name."""
        return self.return_dict

    @property
    def num_labels(self) -> int:
        """How many labels `id2label` names; setting another number names them anew."""
        return len(self.id2label or {})

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        if self.id2label is None or len(self.id2label) != count:
            self.id2label = {number: f"LABEL_{number}" for number in range(count)}
            self.label2id = {label: number for number, label in self.id2label.items()}

    def _settle_labels(self, count: int | None) -> None:
        if self.id2label is None:
            self.num_labels = 2 if count is None else count
            return
        self.id2label = {int(number): label for number, label in self.id2label.items()}
        if count is not None:
            self.num_labels = count

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PretrainedConfig:
        """The section that describes the text: `text_config` where there is one, else the configuration itself."""
        has_section = "text_config" in self.sub_configs and not (encoder and not decoder)
        section: PretrainedConfig = self.text_config if has_section else self
        return section

    # -- dictionaries and JSON -----------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], **changes: Any) -> Any:
        """From what `to_dict` gives, or from the content of a config.json.

        `changes` go over it where they name a value that the configuration has; a dictionary for a section changes the
        values it names. With `return_unused_kwargs=True` the others come back beside the configuration.

        Raises:
            BadConfig: An impossible value, by name.
        """
        give_back = changes.pop("return_unused_kwargs", False)
        changes = {name: value for name, value in changes.items() if (name, value) not in (("dtype", "auto"),)}
        values = copy.deepcopy(dict(config_dict))
        known = {*cls.__dataclass_fields__, *_OTHER_NAMES, *values, "dtype", "num_labels"} - {"extra"}
        for name in [name for name in changes if name in known]:
            value = changes.pop(name)
            section = name in cls.sub_configs and isinstance(value, Mapping)
            values[name] = {**(values.get(name) or {}), **value} if section else value
        config = cls(**values)
        return (config, changes) if give_back else config

    def to_dict(self) -> dict[str, Any]:
        """All values, sections as dictionaries, ready for JSON: read by `from_dict` and by the port."""
        values: dict[str, Any] = copy.deepcopy(super().to_dict())
        for item in _COMMON:
            values[item.name] = copy.deepcopy(getattr(self, item.name))
        values["_name_or_path"] = values.pop("name_or_path")
        values["dtype"] = self._dtype
        values["model_type"] = self.model_type
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def to_diff_dict(self) -> dict[str, Any]:
        """`to_dict` without the values shared by all models that are at their defaults: what config.json holds."""
        values = self.to_dict()
        defaults = {item.name: item.default for item in _COMMON} | {"dtype": None}
        if self.num_labels == 2 and self.id2label == {0: "LABEL_0", 1: "LABEL_1"}:
            defaults |= {"id2label": values["id2label"], "label2id": values["label2id"]}
        kept = {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}
        del kept["_name_or_path"]
        return kept | {name: getattr(self, name).to_diff_dict() for name in self.sub_configs}

    def to_json_string(self, use_diff: bool = True) -> str:
        """The JSON text of `to_diff_dict`, or of `to_dict` with `use_diff` off, ended by a new line."""
        return json.dumps(self.to_diff_dict() if use_diff else self.to_dict(), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, json_file_path: str | os.PathLike[str], use_diff: bool = True) -> None:
        """Write `to_json_string` to a file, aside and renamed. Raises Unwritable."""
        write_whole(Path(json_file_path), self.to_json_string(use_diff))

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Self:
        """Read a config.json, or the one in a folder. Raises NotFound or BadConfig, naming the file."""
        path = Path(json_file)
        path = path / CONFIG if path.is_dir() else path
        values = read_object(path)
        return _named(path, lambda: cls(**values))

    def update(self, config_dict: Mapping[str, Any]) -> None:
        """Set several values by name."""
        for name, value in config_dict.items():
            setattr(self, name, value)

    def update_from_string(self, update_str: str) -> None:
        """Set values from text such as `hidden_size=64,hidden_act=relu,is_decoder=false`.

        Raises:
            BadConfig: A name that the configuration lacks, or a text that is no value of its kind.
        """
        for part in update_str.split(","):
            name, equals, text = part.partition("=")
            if not equals or name not in self:
                raise BadConfig(f"{part!r}: {type(self).__name__} has no value {name!r} to update")
            setattr(self, name, _parsed(name, text, getattr(self, name)))

    # -- files and the hub ---------------------------------------------------------------------------------------

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The content of a checkpoint's config.json, and those of `kwargs` that didn't say where it lies."""
        where = {name: kwargs.pop(name) for name in WHERE if name in kwargs}
        for name in ("proxies", "trust_remote_code", "user_agent", "_from_auto", "_from_pipeline"):
            kwargs.pop(name, None)
        path = Path(pretrained_model_name_or_path).expanduser()
        if not path.is_file():
            path = settings_folder(pretrained_model_name_or_path, (CONFIG,), **where) / CONFIG
        return read_object(path), kwargs

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = "main",
        subfolder: str = "",
        **changes: Any,
    ) -> Any:
        """The configuration of a checkpoint; the text and vision classes take their section of it.

        Args:
            pretrained_model_name_or_path: A bundled name (`tiny`), a hub name, a folder, or a config.json.
            cache_dir: Another cache folder than the hub's own.
            force_download: Fetch the file from the hub even where the cache has it.
            local_files_only: Never ask the hub.
            token: The hub's token; None and True stand for the stored one.
            revision: Branch, tag or commit on the hub.
            subfolder: The folder inside the checkpoint that holds config.json.
            changes: As in `from_dict`; `return_unused_kwargs=True` gives `(config, unused)`.

        Raises:
            NotFound: No such folder or file.
            UnknownModel: No checkpoint of that name.
            Offline: The hub is needed and can't be asked.
            DownloadFailed: The hub refused.
            BadConfig: The file is broken, of another kind of model, or has an impossible value.
        """
        where = {
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": token,
            "revision": revision,
            "subfolder": subfolder,
        }
        values, changes = cls.get_config_dict(pretrained_model_name_or_path, **where, **changes)
        name = shown_path(os.fspath(pretrained_model_name_or_path))
        if cls.base_config_key and isinstance(values.get(cls.base_config_key), dict):
            values = with_fields_in_place(values)[cls.base_config_key]
        elif values.get("model_type") not in (None, cls.model_type):
            raise BadConfig(f"{name}: model_type is {values['model_type']!r}, but has to be {cls.model_type!r}")
        try:
            return cls.from_dict(values, **changes)
        except BadConfig as error:
            raise BadConfig(f"{name}: {str(error).removeprefix(f'{CONFIG}: ')}") from None

    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write config.json into a folder, made where it is not there; `transformers` reads it.

        Raises:
            BadConfig: Values set since construction that no network can be built from.
            Unwritable: The folder can't be written.
            Misuse: `push_to_hub`.
        """
        refuse_push(push_to_hub)
        self.validate()
        write_whole(made_folder(save_directory) / CONFIG, self.to_json_string())

    # -- comparison and display ----------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        """Whether the two are of one class and all values are equal; where they came from doesn't count."""
        if type(self) is not type(other) or not isinstance(other, PretrainedConfig):
            return NotImplemented
        return self._compared() == other._compared()

    def _compared(self) -> dict[str, Any]:
        sections = {name: getattr(self, name)._compared() for name in self.sub_configs}
        origin = ("_name_or_path", "transformers_version")
        return {name: value for name, value in self.to_dict().items() if name not in origin} | sections

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"


_COMMON = [item for item in fields(PretrainedConfig) if item.name != "extra"]
_DTYPES = ("float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2", "int8", "uint8")


def _value_or_default(item: Any, value: Any) -> Any:
    if value is not None or item.name in _MAY_BE_NONE:
        return value
    return item.default_factory() if item.default is MISSING else copy.copy(item.default)


def _section(section: type[PretrainedConfig], name: str, value: Any) -> PretrainedConfig:
    """A section given as an object of its class, a dictionary, or any configuration that knows `to_dict`."""
    if isinstance(value, section):
        return value
    values = value.to_dict() if hasattr(value, "to_dict") else value
    if not isinstance(values, Mapping):
        raise BadConfig(f"config.json: {name} is {value!r:.100}, but has to be an object")
    return section(**values)


def _named(path: Path, make: Callable[[], Any]) -> Any:
    """What `make` gives; its complaint about a value begins with the file."""
    try:
        return make()
    except BadConfig as error:
        raise BadConfig(f"{path}: {str(error).removeprefix(f'{CONFIG}: ')}") from None


def _parsed(name: str, text: str, old: Any) -> Any:
    flags = {"true": True, "1": True, "y": True, "yes": True, "false": False, "0": False, "n": False, "no": False}
    try:
        if isinstance(old, bool):
            return flags[text.lower()]
        if isinstance(old, (int, float, str)):
            return type(old)(text)
    except (KeyError, ValueError):
        raise BadConfig(f"{name}={text!r}: {name} is {type(old).__name__}") from None
    raise BadConfig(f"{name}={text!r}: {name} is {type(old).__name__}; only numbers, flags and text can be updated")

"""The keys of the Compose sections and their meanings, for editors.

Names and descriptions come from the models of the Compose library. Nothing here says what is valid: `judge.py` decides
that, and a second rule that is wrong in places would only confuse.
"""

from __future__ import annotations

from enum import Enum
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

# Descriptions of keys for which the library has none, or which mean something else here.
_DESCRIPTIONS = {
    ("Service", "develop"): "Settings for development, such as files to watch.",
    ("Service", "deploy"): "Resources, replicas and restarts of the service.",
    ("Service", "annotations"): "Annotations of the container: NAME=VALUE pairs, as a mapping or a list.",
    ("Service", "attach"): "Whether Compose collects the service's logs.",
    ("Service", "image"): "The image to start the container from, such as postgres:17.",
    ("Service", "build"): "How the image is built: a directory of the project, or a mapping.",
    ("Service", "ports"): "Ports to publish, such as 8080:80. Each is also on the host's loopback, by its own number.",
    ("Service", "volumes"): "Directories of the project or of the guest, and named volumes: SOURCE:TARGET[:MODE].",
    ("Service", "extends"): "Another service of this file that this one continues.",
    ("ServiceExtends", "service"): "The service to continue.",
    ("ServiceDependsOn", "condition"): "What to wait for: started, healthy, or ended without an error.",
    ("Model", "context_size"): "The size of the model's context, in tokens.",
}
# Keys that editors must not offer: we refuse them, or the Compose version in the guest does not know them.
_LEFT_OUT = {
    "Service": {
        *("credential_spec", "gpus", "isolation", "label_file", "models", "post_start", "pre_stop", "provider"),
        *("pull_refresh_after", "secrets", "use_api_socket"),
    },
    "ServiceBuild": {"provenance", "sbom"},
    "ServiceNetworks": {"interface_name", "gw_priority"},
    "Network": {"enable_ipv4"},
    "ServiceExtends": {"file"},
    "EnvFileEnvFile": {"format"},
}
_ROOTS = {"services": "Service", "volumes": "Volume", "networks": "Network", "configs": "Config"}


def compose_definitions() -> dict[str, dict[str, Any]]:
    """JSON schema definitions `ComposeService` and so on, with the keys of each part. They refuse nothing."""
    from compose_spec import models  # here, since it is slow to import and only editors need it

    definitions: dict[str, dict[str, Any]] = {}
    for name in _ROOTS.values():
        _define(getattr(models, name), definitions)
    return dict(sorted(definitions.items()))


def reference_to(section: str) -> str:
    """The `$ref` to the definition of an entry of a Compose section."""
    return f"#/$defs/Compose{_ROOTS[section]}"


def _define(model: type[BaseModel], definitions: dict[str, dict[str, Any]]) -> str:
    name = f"Compose{model.__name__.removeprefix('Service') or 'Service'}"
    if name not in definitions:
        properties: dict[str, Any] = {}
        definitions[name] = {"properties": properties}
        left_out = _LEFT_OUT.get(model.__name__, set())
        for field_name, field in model.model_fields.items():
            key = field.alias or field_name
            if key in left_out or field.deprecated:
                continue
            description = _DESCRIPTIONS.get((model.__name__, key)) or field.description or ""
            properties[key] = {"description": _sentence(description)} | _shape(field.annotation, definitions)
    return f"#/$defs/{name}"


def _shape(annotation: Any, definitions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A schema with the keys below a value of this type.

    It covers all forms of the value at once, since each keyword of a schema applies to one kind of value only.
    """
    shape: dict[str, Any] = {}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        shape["$ref"] = _define(annotation, definitions)
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        shape["examples"] = [member.value for member in annotation]
    elif hasattr(annotation, "__value__"):
        shape = _shape(annotation.__value__, definitions)
    elif origin is Annotated:
        shape = _shape(arguments[0], definitions)
    elif origin in (Union, UnionType):
        for member in arguments:
            _join(shape, _shape(member, definitions))
    elif origin in (list, set, tuple):
        if items := _shape(arguments[0], definitions):
            shape["items"] = items
    elif origin is dict and (values := _shape(arguments[1], definitions)):
        shape["additionalProperties"] = values
    return shape


def _join(shape: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        if key not in shape:
            shape[key] = value
        elif isinstance(value, dict):
            _join(shape[key], value)
        elif isinstance(value, list):
            shape[key] = list(dict.fromkeys([*shape[key], *value]))


def _sentence(text: str) -> str:
    """The text on one line, with a full stop at its end, as all other descriptions have one."""
    text = " ".join(text.split())
    return text if text.endswith(".") or not text else f"{text}."

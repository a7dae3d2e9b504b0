"""The OpenRPC document (https://spec.open-rpc.org, 1.3), generated from the method table."""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from recordd_protocol.errors import Reason
from recordd_protocol.methods import METHODS, Method

__all__ = ["describe_api"]

_REF: Final = "#/components/schemas/{name}"


@functools.cache
def describe_api(server_version: str) -> dict[str, Any]:
    """Return the document; every method, its parameters by name, its result, its errors."""
    types = [t for method in METHODS.values() for t in (method.params, method.result)]
    schemas, components = msgspec.json.schema_components(
        types, schema_hook=_describe_raw, ref_template=_REF
    )
    pairs = zip(METHODS.values(), schemas[::2], schemas[1::2], strict=True)
    return {
        "openrpc": "1.3.2",
        "info": {"title": "recordd", "version": server_version, "license": {"name": "Apache-2.0"}},
        "methods": [
            _describe_method(method, components[params["$ref"].rsplit("/", 1)[1]], result)
            for method, params, result in pairs
        ],
        "components": {
            "schemas": components,
            "errors": {
                reason.word: {
                    "code": reason.code,
                    "message": reason.word,
                    "data": {"reason": reason.word, "retryable": reason.retryable},
                }
                for reason in Reason
            },
        },
    }


def _describe_method(
    method: Method, params: dict[str, Any], result: dict[str, Any]
) -> dict[str, Any]:
    required = params.get("required", [])
    return {
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "by-name",
        "params": [
            {"name": name, "required": name in required, "schema": schema}
            for name, schema in params["properties"].items()
        ],
        "result": {"name": "result", "schema": result},
        "errors": [{"$ref": f"#/components/errors/{reason.word}"} for reason in Reason],
    }


def _describe_raw(type: Any) -> dict[str, Any]:
    """A value is any JSON."""
    if type is msgspec.Raw:
        return {"description": "any JSON value"}
    raise NotImplementedError(type)

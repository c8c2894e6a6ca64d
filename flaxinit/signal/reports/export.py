"""A report as plain data, and as JSON."""

import json
import math
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flaxinit.signal.reports.report import Report


def to_json(report: "Report") -> str:
    """Return all numbers and findings of a report; what is not finite is null."""
    return json.dumps(_plain(report), ensure_ascii=False, indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        plain = {
            each.name: _plain(getattr(value, each.name)) for each in fields(value) if each.repr
        }
        known = ("typical", "band", "sigma_w2", "ratio")  # properties
        return plain | {
            name: _plain(getattr(value, name)) for name in known if hasattr(value, name)
        }
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value

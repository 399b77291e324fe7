"""Rules and their states as JSON, for the store. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import datetime
from typing import Any, cast, get_args

from pairs.alerts.rules import AlertRule, AlertState, Phase, Side
from pairs.analytics.pair import PairSpec
from pairs.checks import check_window

_TIMES = ("snoozed_from", "snoozed_until")


def rule_to_json(rule: AlertRule) -> dict[str, Any]:
    """The rule as JSON-ready values; `rule_from_json` is the inverse."""
    values = {item.name: getattr(rule, item.name) for item in fields(rule)}
    values |= {leg: getattr(rule, leg)._asdict() for leg in ("y", "x")}
    values["spec"] = {item.name: getattr(rule.spec, item.name) for item in fields(PairSpec)}
    for name in _TIMES:
        when: datetime | None = values.pop(name)
        if when is not None:
            values[name] = when.isoformat()
    return values


def rule_from_json(values: object) -> AlertRule:
    """The rule of `rule_to_json`. ValueError names what is missing, unknown or not usable."""
    given = dict(_mapping("rule", values, AlertRule))
    if "spec" in given:
        given["spec"] = PairSpec(**_mapping("spec", given["spec"], PairSpec))
    given |= {name: _time(name, given[name]) for name in _TIMES if name in given}
    missing = [
        item.name
        for item in fields(AlertRule)
        if item.name not in given and item.default is item.default_factory is MISSING
    ]
    if missing:
        raise ValueError(f"rule has no {', '.join(missing)}")
    return AlertRule(**given)


def state_to_json(state: AlertState) -> dict[str, Any]:
    """The state without `last_ts`, which the store keeps in a column of its own."""
    return {
        "up": [state.up.phase, state.up.count],
        "down": [state.down.phase, state.down.count],
        "last_fired": state.last_fired.isoformat() if state.last_fired else None,
    }


def state_from_json(last_ts: datetime | None, values: Mapping[str, Any]) -> AlertState:
    """The inverse of `state_to_json`; `{}` is the state of a new rule."""
    fired = values.get("last_fired")
    up, down = (_side(name, values.get(name, ["new", 0])) for name in ("up", "down"))
    return AlertState(last_ts, up, down, datetime.fromisoformat(fired) if fired else None)


def _time(name: str, value: object) -> datetime:
    try:
        return datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"{name}={value!r} is not usable: an ISO time is allowed") from None


def _side(name: str, pair: object) -> Side:
    if isinstance(pair, list) and len(pair) == 2 and pair[0] in get_args(Phase):
        return Side(cast(Phase, pair[0]), check_window(name, pair[1], 0))
    raise ValueError(f"{name}={pair!r} is no state: [phase, count] is allowed")


def _mapping(name: str, values: object, of: Any) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} is a {type(values).__name__}: an object of fields is allowed")
    allowed = [item.name for item in fields(of)]
    unknown = [str(key) for key in values if key not in allowed]
    if unknown:
        raise ValueError(
            f"{name} has no field {', '.join(unknown)}: allowed are {', '.join(allowed)}"
        )
    return values

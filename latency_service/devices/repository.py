"""All SQL about devices, agents and targets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeVarTuple, cast

from sqlalchemy import (
    Connection,
    Row,
    Select,
    Table,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session, aliased, contains_eager, defer, joinedload

from latency_service.db.base import utcnow
from latency_service.devices.models import Agent, Comparison, Device, Target

Columns = TypeVarTuple("Columns")

# for each result that arrives; building a statement takes longer than running it
_DEVICES = cast("Table", Device.__table__)
_LOCK_DEVICE = (
    select(_DEVICES.c.quarantined_at)
    .where(_DEVICES.c.id == bindparam("its_id"))
    .with_for_update(key_share=True)
)
_TARGETS_WITH = (
    select(Target)
    .where(
        Target.device_id == bindparam("its_device_id"),
        Target.fingerprint == bindparam("its_fingerprint"),
    )
    .order_by(Target.is_current.desc(), Target.generation.desc())
    .options(defer(Target.runtime), defer(Target.facts), defer(Target.context))
)


def now(session: Session) -> datetime:
    """The database's clock."""
    return session.execute(select(utcnow())).scalar_one()


def device_named(session: Session, name: str) -> Device | None:
    return session.scalar(select(Device).where(Device.name == name))


def devices(
    session: Session, *, limit: int | None = None, offset: int | None = None
) -> Sequence[Device]:
    """By name."""
    ordered = select(Device).order_by(Device.name)
    return session.scalars(ordered.limit(limit).offset(offset)).all()


def lock_device(session: Session, device_id: str) -> bool:
    """Hold the device until the transaction ends: its targets and its waiting campaigns change one
    at a time.

    Returns:
        Whether it is quarantined.
    """
    found = session.execute(_LOCK_DEVICE, {"its_id": device_id}).one_or_none()
    return found is not None and found.quarantined_at is not None


def agent(session: Session, agent_id: str) -> Agent:
    return session.scalars(select(Agent).where(Agent.id == agent_id)).one()


def agents_of(session: Session, device_ids: Sequence[str]) -> Sequence[Agent]:
    """Agents of the devices, last seen first."""
    chosen = select(Agent).where(Agent.device_id.in_(device_ids))
    return session.scalars(chosen.order_by(Agent.last_seen_at.desc(), Agent.id.desc())).all()


def targets_of(session: Session, device_ids: Sequence[str]) -> Sequence[Target]:
    chosen = select(Target).where(Target.device_id.in_(device_ids))
    return session.scalars(chosen.order_by(Target.created_at, Target.id)).all()


def target(session: Session, target_id: str) -> Target:
    return session.scalars(select(Target).where(Target.id == target_id)).one()


def known_target(session: Session, target_id: str) -> Target | None:
    """With its device."""
    chosen = select(Target).where(Target.id == target_id)
    return session.scalar(chosen.options(joinedload(Target.device)))


def targets_with_devices(device: str | None) -> Select[Target]:
    """Targets with their devices, of all devices or of the one with that name."""
    chosen = select(Target).join(Device).options(contains_eager(Target.device))
    return chosen if device is None else chosen.where(Device.name == device)


def all_targets(session: Session, limit: int) -> Sequence[Target]:
    """Of every device, with it: current ones first, then by the name of the device."""
    chosen = targets_with_devices(None).order_by(
        Target.is_current.desc(), Device.name, Target.id.desc()
    )
    return session.scalars(chosen.limit(limit)).all()


def targets_with(session: Session, device_id: str, fingerprint: str) -> Sequence[Target]:
    """Its generations: the current one first, then the newest."""
    parameters = {"its_device_id": device_id, "its_fingerprint": fingerprint}
    return session.scalars(_TARGETS_WITH, parameters).all()


def peers_of(session: Session, target: Target) -> Sequence[Target]:
    """Current targets of other devices with the same fingerprint, by their devices' names."""
    others = select(Target).join(Device, Device.id == Target.device_id)
    same = others.where(Target.fingerprint == target.fingerprint, Target.is_current)
    return session.scalars(
        same.where(Target.device_id != target.device_id).order_by(Device.name)
    ).all()


def trusted_peers(
    session: Session, target: Target, within_seconds: float, most: int
) -> Sequence[Target]:
    """Of the same those of this service's own devices that are trusted and were heard of lately,
    with their devices; up to `most`.
    """
    others = select(Target).join(Device).options(contains_eager(Target.device))
    same = others.where(
        Target.fingerprint == target.fingerprint,
        Target.is_current,
        Target.device_id != target.device_id,
        Device.quarantined_at.is_(None),
        Device.imported_from.is_(None),
        Device.last_seen_at > utcnow(-within_seconds),
    )
    return session.scalars(same.order_by(Device.last_seen_at.desc()).limit(most)).all()


def compared_with(session: Session, target_ids: Sequence[str], most: int) -> Sequence[Target]:
    """Current targets that these were compared with, newest first; up to `most`."""
    chosen = select(Target).join(Comparison, Comparison.peer_target_id == Target.id)
    chosen = chosen.where(Comparison.target_id.in_(target_ids), Target.is_current)
    ordered = chosen.order_by(Comparison.compared_at.desc())
    return list(dict.fromkeys(session.scalars(ordered.limit(2 * most))))[:most]


def comparisons_among(session: Session, target_ids: Collection[str]) -> Sequence[Comparison]:
    """What is known of each two of these targets."""
    chosen = select(Comparison).where(Comparison.target_id.in_(target_ids))
    return session.scalars(chosen.where(Comparison.peer_target_id.in_(target_ids))).all()


def differences_of(
    session: Session, device_ids: Sequence[str]
) -> Sequence[Row[Comparison, Target, str]]:
    """Differences of the devices' current targets from others of their class, newest first: the
    comparison, the target, and the other device's name.
    """
    peer = aliased(Target)
    chosen = _differing(select(Comparison, Target, Device.name), peer)
    chosen = chosen.join(Device, Device.id == peer.device_id)
    mine = chosen.where(Target.device_id.in_(device_ids))
    return session.execute(mine.order_by(Comparison.compared_at.desc())).all()


def count_differing(session: Session) -> int:
    """Number of devices that differ from another of their class."""
    counted = _differing(select(func.count(Target.device_id.distinct())), aliased(Target))
    return session.scalar(counted) or 0


def _differing(chosen: Select[*Columns], peer: type[Target]) -> Select[*Columns]:
    """Of what is `chosen` that about current targets which differ."""
    joined = chosen.select_from(Comparison).join(Target, Target.id == Comparison.target_id)
    joined = joined.join(peer, peer.id == Comparison.peer_target_id)
    return joined.where(Comparison.differs, Target.is_current, peer.is_current)


def forget_comparisons(session: Session, target_ids: Sequence[str]) -> None:
    """Delete what is known of how these targets differ from others."""
    mine = or_(Comparison.target_id.in_(target_ids), Comparison.peer_target_id.in_(target_ids))
    session.execute(delete(Comparison).where(mine))


def current_target(session: Session, device_id: str, runtime_key: str) -> Target | None:
    chosen = select(Target).where(Target.device_id == device_id, Target.runtime_key == runtime_key)
    return session.scalar(chosen.where(Target.is_current))


def retire_targets(session: Session, device_id: str, runtime_key: str) -> None:
    """No target of this device and runtime is current any more."""
    chosen = update(Target).where(Target.device_id == device_id, Target.runtime_key == runtime_key)
    session.execute(chosen.where(Target.is_current).values(is_current=False))


def touch(session: Session, agent_id: str) -> None:
    """The agent was heard of, and its device with it."""
    session.execute(update(Agent).where(Agent.id == agent_id).values(last_seen_at=utcnow()))
    device_id = select(Agent.device_id).where(Agent.id == agent_id).scalar_subquery()
    session.execute(update(Device).where(Device.id == device_id).values(last_seen_at=utcnow()))


class Heard(Protocol):
    """What an agent has said about itself."""

    @property
    def state(self) -> str: ...
    @property
    def load(self) -> float | None: ...
    @property
    def temperature_c(self) -> float | None: ...


def store_heard(session: Session, heard: Mapping[str, Heard | None]) -> set[str]:
    """Agents were heard of just now, and their devices with them; some have told their state.

    Rows that another transaction holds are left out, so that nobody waits in a circle: whoever
    holds them has heard of the agent too, but not what it told.

    Returns:
        The agents that were not left out.
    """
    ids = sorted(heard)
    stored: set[str] = set()
    for start in range(0, len(ids), _CHUNK):
        stored |= _store_heard(session, heard, ids[start : start + _CHUNK])
    return stored


def _store_heard(
    session: Session, heard: Mapping[str, Heard | None], agent_ids: Sequence[str]
) -> set[str]:
    free = select(Agent.id, Agent.device_id).where(Agent.id.in_(agent_ids))
    found = session.execute(free.with_for_update(skip_locked=True, key_share=True)).all()
    told = [(row.id, heard[row.id]) for row in found]
    reports = [_report(agent_id, one) for agent_id, one in told if one is not None]
    if reports:
        session.execute(_STORE_REPORT, reports)
    _store_time(session, Agent, [row.id for row in found])
    devices = select(Device.id).where(
        Device.id.in_({row.device_id for row in found if row.device_id})
    )
    locked = session.scalars(devices.with_for_update(skip_locked=True, key_share=True)).all()
    _store_time(session, Device, locked)
    return {row.id for row in found}


def _store_time(session: Session, table: type[Agent | Device], ids: Sequence[str]) -> None:
    if ids:
        heard_now = update(table).where(table.id.in_(ids)).values(last_seen_at=utcnow())
        session.execute(heard_now, execution_options={"synchronize_session": False})


def count_agents(connection: Connection, within_seconds: float) -> int:
    """Number of agents heard of within this time."""
    heard = select(func.count()).where(Agent.last_seen_at > utcnow(-within_seconds))
    return connection.scalar(heard) or 0


def _report(agent_id: str, told: Heard) -> dict[str, object]:
    return {
        "agent_id": agent_id,
        "reported_state": told.state,
        "reported_load": told.load,
        "reported_temperature": told.temperature_c,
    }


#: Number of agents in one statement.
_CHUNK = 500
_STORE_REPORT = (
    update(cast("Table", Agent.__table__))
    .where(Agent.id == bindparam("agent_id"))
    .values(
        state=bindparam("reported_state"),
        load=bindparam("reported_load"),
        temperature_c=bindparam("reported_temperature"),
    )
)

"""Names of the rules that change a size between a need and the pools' targets."""

from __future__ import annotations

from enum import StrEnum


class RuleId(StrEnum):
    """A rule of a decision. Journals, metrics, logs and reports contain the value."""

    # recommend
    DEMAND = "demand"
    BLIND = "blind"
    SIZE_UNKNOWN = "size unknown"
    OWN_LIMITS = "own limits"
    # cap
    READINESS = "readiness"
    SLO_FEASIBILITY = "slo feasibility"
    BUDGET = "budget"
    FLEET = "fleet"
    # stabilize
    TOLERANCE = "tolerance"
    ACTIVATION = "activation"
    SCALE_UP_WINDOW = "scale-up window"
    SCALE_DOWN_WINDOW = "scale-down window"
    PENDING = "pending"
    COOLDOWN = "cooldown"
    STEP = "step"
    EVIDENCE = "evidence"
    OVERRIDE = "override"
    BOUNDS = "bounds"
    MAINTENANCE = "maintenance"
    PAUSED = "paused"
    # allocate
    SHORTAGE = "shortage"
    CEILING = "ceiling"
    ABANDONED = "abandoned"
    INTERRUPTION_PENDING = "interruption pending"
    MAKE_BEFORE_BREAK = "make before break"
    COST_ALLOCATION = "cost allocation"
    UNMANAGED_POOLS = "unmanaged pools"
    POOL_BOUNDS = "pool bounds"
    HEADROOM = "headroom"
    MIN_BILLED = "minimum billed time"
    # enforce
    FULL_REPLICAS = "full replicas"
    BLAST_RADIUS = "blast radius"
    FLEET_BLAST_RADIUS = "fleet's blast radius"
    QUANTUM = "quantum"
    UNREPLACED = "unreplaced"
    # route
    ROUTE_DRAIN = "route drain"

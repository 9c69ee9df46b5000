"""Handlers of Auto Scaling, EC2 and EKS operations on a `World`."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.servers.aws_wire import Refusal
from tests.servers.aws_world import CODES, WORDS, Fleet, Group, Instance, InstanceSet, NodeGroup, World, when

ARN: Final = "arn:aws:{service}:us-east-1:123456789012:{rest}"
Handler = Callable[[World, dict[str, Any]], Mapping[str, Any]]


# --- Auto Scaling


def group(world: World, fields: Mapping[str, Any]) -> Group:
    name = fields["AutoScalingGroupName"]
    if name not in world.groups:
        raise Refusal("ValidationError", f"AutoScalingGroup name not found - {name}")
    return world.groups[name]


def describe_groups(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    names = fields.get("AutoScalingGroupNames") or list(world.groups)
    return {"AutoScalingGroups": [_group(world.groups[n]) for n in names if n in world.groups]}


def _group(g: Group) -> dict[str, Any]:
    description: dict[str, Any] = {
        "AutoScalingGroupName": g.name,
        "AutoScalingGroupARN": ARN.format(
            service="autoscaling", rest=f"autoScalingGroup:1:autoScalingGroupName/{g.name}"
        ),
        "MinSize": g.min_size,
        "MaxSize": g.max_size,
        "DesiredCapacity": g.desired,
        "DefaultCooldown": 300,
        "AvailabilityZones": list(g.zones),
        "HealthCheckType": "EC2",
        "CreatedTime": when(0),
        "Instances": [_member(i, "InService" if i.up else "Pending") for i in g.instances],
        "SuspendedProcesses": [{"ProcessName": p, "SuspensionReason": "by user"} for p in g.suspended],
    }
    if g.spot_share is not None:
        shares = {"OnDemandBaseCapacity": 0, "OnDemandPercentageAboveBaseCapacity": round(100 * (1 - g.spot_share))}
        description["MixedInstancesPolicy"] = {"InstancesDistribution": shares}
    if g.warm is not None:
        description["WarmPoolConfiguration"] = _warm(g)
        description["WarmPoolSize"] = len(g.warm.instances)
    return description


def _member(i: Instance, state: str) -> dict[str, Any]:
    return {
        "InstanceId": i.id,
        "InstanceType": i.type,
        "AvailabilityZone": i.zone,
        "LifecycleState": state,
        "HealthStatus": "Healthy",
        "ProtectedFromScaleIn": False,
        **({"WeightedCapacity": str(i.weight)} if i.weight != 1 else {}),
    }


def _warm(g: Group) -> dict[str, Any]:
    assert g.warm is not None
    more = {} if g.prepared is None else {"MaxGroupPreparedCapacity": g.prepared}
    return {"MinSize": g.warm.min_size, "PoolState": g.warm_state, **more}


def set_desired(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    g, size = group(world, fields), fields["DesiredCapacity"]
    for bound, wrong, word in (
        (g.max_size, size > g.max_size, "above max"),
        (g.min_size, size < g.min_size, "below min"),
    ):
        if wrong:
            text = f"New SetDesiredCapacity value {size} is {word} value {bound} for the AutoScalingGroup."
            raise Refusal("ValidationError", text)
    g.desired = size
    return {}


def launch_instances(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    g, zone = group(world, fields), fields["AvailabilityZones"][0]
    return _once(
        world,
        fields["ClientToken"],
        (g.name, zone, fields["RequestedCapacity"]),
        lambda: _launch(world, g, zone, fields),
    )


def _launch(world: World, g: Group, zone: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    if g.desired + fields["RequestedCapacity"] > g.max_size:
        raise Refusal("ValidationError", f"The requested capacity would exceed the maximum of {g.max_size}.")
    came: list[str] = []
    market, missing = g.next_market(), None
    for _ in range(fields["RequestedCapacity"]):
        missing = world.launch(g, zone, market)
        if missing is None:
            came.append(g.instances[-1].id)
    g.desired += len(came)
    where = {"InstanceType": g.type, "MarketType": market, "AvailabilityZone": zone}
    errors = (
        [] if missing is None else [{**where, "ErrorCode": CODES[missing, market], "ErrorMessage": "Not launched."}]
    )
    instances = [{**where, "InstanceIds": came}] if came else []
    return {
        "AutoScalingGroupName": g.name,
        "ClientToken": fields["ClientToken"],
        "Instances": instances,
        "Errors": errors,
    }


def _once(world: World, token: str, parameters: object, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the response of the first call with this token."""
    if token in world.launches:
        before, answer = world.launches[token]
        if before != parameters:
            raise Refusal("IdempotentParameterMismatch", "The token was used with other parameters.")
        return answer
    answer = do()
    world.launches[token] = parameters, answer
    return answer


def describe_activities(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    g = group(world, fields)
    launches = [(t, "", g.market) for t in g.activities]
    launches += [(t, " into warm pool", g.market) for t in (g.warm.activities if g.warm is not None else [])]
    launches.sort(key=lambda one: one[0][0], reverse=True)
    return {
        "Activities": [
            _activity(g, *one, number) for number, one in enumerate(launches[: fields.get("MaxRecords", 100)])
        ]
    }


def _activity(g: Group, launch: tuple[float, str, Any], where: str, market: str, number: int) -> dict[str, Any]:
    at, zone, missing = launch
    message = WORDS[missing, market].format(type=g.type, zone=zone) if missing else ""
    return {
        "ActivityId": str(uuid.UUID(int=number)),
        "AutoScalingGroupName": g.name,
        "Description": f"Launching a new EC2 instance{where}"
        + ("" if missing is None else f".  Status Reason: {message}"),
        "Cause": "a difference between desired and actual capacity",
        "StartTime": when(at),
        "EndTime": when(at + 1),
        "StatusCode": "Successful" if missing is None else "Failed",
        "StatusMessage": message,
        "Progress": 100,
        "Details": json.dumps({"Subnet ID": "subnet-1", "Availability Zone": zone}),
    }


def put_warm_pool(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    g = group(world, fields)
    if g.warm is None:
        g.warm = InstanceSet(f"{g.name}/warm", g.zones, g.type, g.market)
    g.warm.min_size = fields.get("MinSize", 0)
    g.prepared = fields.get("MaxGroupPreparedCapacity")
    g.warm_state = fields.get("PoolState", "Stopped")
    return {}


def describe_warm_pool(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    g = group(world, fields)
    if g.warm is None:
        return {"Instances": []}
    states = [(i, f"Warmed:{g.warm_state}" if i.up else "Warmed:Pending") for i in g.warm.instances]
    return {"WarmPoolConfiguration": _warm(g), "Instances": [_member(i, state) for i, state in states]}


# --- EC2


def describe_instances(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    filters = {f["Name"]: f["Values"] for f in fields.get("Filters", ())}
    now = time.time()
    instances = [i for i in world.instances() if _matches(i, filters) and now - i.born >= world.hidden_s]
    return {"Reservations": [{"ReservationId": f"r-{n}", "Instances": [_instance(i)]} for n, i in enumerate(instances)]}


def _matches(i: Instance, filters: Mapping[str, list[str]]) -> bool:
    state = "running" if i.up else "pending"
    known = {"instance-id": i.id, "instance-state-name": state, **{f"tag:{k}": v for k, v in i.tags.items()}}
    return all(known.get(name) in values for name, values in filters.items())


def _instance(i: Instance) -> dict[str, Any]:
    state = {"Code": 16, "Name": "running"} if i.up else {"Code": 0, "Name": "pending"}
    more = {"InstanceLifecycle": "spot"} if i.market == "spot" else {}
    tags = [{"Key": k, "Value": v} for k, v in i.tags.items()]
    placed = {"AvailabilityZone": i.zone}
    return {"InstanceId": i.id, "InstanceType": i.type, "State": state, "Placement": placed, "Tags": tags, **more}


def fleet(world: World, name: str) -> Fleet:
    if name not in world.fleets:
        raise Refusal("InvalidFleetId.NotFound", f"The fleet ID '{name}' does not exist")
    return world.fleets[name]


def describe_fleets(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    return {"Fleets": [_fleet(fleet(world, f)) for f in fields.get("FleetIds") or list(world.fleets)]}


def _fleet(f: Fleet) -> dict[str, Any]:
    return {
        "FleetId": f.name,
        "FleetState": f.state,
        "Type": "maintain",
        "TargetCapacitySpecification": {"TotalTargetCapacity": f.desired, "DefaultTargetCapacityType": f.market},
        "FulfilledCapacity": float(len(f.instances)),
    }


def describe_fleet_instances(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    active = [
        {"InstanceId": i.id, "InstanceType": i.type, "InstanceHealth": "healthy"}
        for i in fleet(world, fields["FleetId"]).instances
    ]
    return {"FleetId": fields["FleetId"], "ActiveInstances": active}


def describe_fleet_history(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    f, since = fleet(world, fields["FleetId"]), fields["StartTime"].timestamp()
    return {"FleetId": f.name, "HistoryRecords": [_event(f, *launch) for launch in f.activities if launch[0] >= since]}


def _event(f: Fleet, at: float, zone: str, missing: Any) -> dict[str, Any]:
    if missing is None:
        information = {"EventSubType": "launched", "EventDescription": f"{f.type}, {zone}"}
        return {"Timestamp": when(at), "EventType": "instance-change", "EventInformation": information}
    kind = "spotInstanceCountLimitExceeded" if missing == "quota" else "launchSpecTemporarilyBlacklisted"
    text = f"{f.type}, ami-1, Linux/UNIX, {zone}: Repeated errors have occurred processing the launch specification."
    text += (
        f" Error message: There is none (Service: AmazonEC2; Status Code: 500; Error Code: {CODES[missing, f.market]})"
    )
    information = {"EventSubType": kind, "EventDescription": text}
    return {"Timestamp": when(at), "EventType": "information", "EventInformation": information}


def modify_fleet(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    f = fleet(world, fields["FleetId"])
    if f.state == "modifying":
        raise Refusal("FleetNotInModifiableState", "The fleet is being modified.")
    f.desired = fields["TargetCapacitySpecification"]["TotalTargetCapacity"]
    return {"Return": True}


def create_fleet(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    parameters = json.dumps({k: v for k, v in fields.items() if k != "ClientToken"}, sort_keys=True, default=str)
    return _once(world, fields["ClientToken"], parameters, lambda: _create(world, fields))


def _create(world: World, fields: Mapping[str, Any]) -> dict[str, Any]:
    target = fields["TargetCapacitySpecification"]
    market = target["DefaultTargetCapacityType"]
    tags = {t["Key"]: t["Value"] for s in fields.get("TagSpecifications", ()) for t in s["Tags"]}
    overrides = fields["LaunchTemplateConfigs"][0]["Overrides"]
    instance_set = InstanceSet(
        "instant", tuple(o["SubnetId"].replace("subnet-", "us-east-1") for o in overrides), market=market, tags=tags
    )
    came, errors = list[dict[str, Any]](), list[dict[str, Any]]()
    for zone, override in zip(instance_set.zones, overrides, strict=True):
        instance_set.type = override.get("InstanceType", instance_set.type)
        ids = list[str]()
        while len(instance_set.instances) < target["TotalTargetCapacity"]:
            missing = world.launch(instance_set, zone, market)
            if missing is not None:
                failed_overrides = {"Overrides": {"InstanceType": instance_set.type, "AvailabilityZone": zone}}
                error = {"LaunchTemplateAndOverrides": failed_overrides, "Lifecycle": market}
                errors.append({**error, "ErrorCode": CODES[missing, market], "ErrorMessage": "Not launched."})
                break
            ids.append(instance_set.instances[-1].id)
        if ids:
            came.append(
                {"InstanceIds": ids, "InstanceType": instance_set.type, "Lifecycle": market, "AvailabilityZone": zone}
            )
    world.standalone += instance_set.instances
    return {"FleetId": f"fleet-{uuid.uuid4()}", "Instances": came, "Errors": errors}


def terminate_instances(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    world.remove(fields["InstanceIds"])
    gone = {"CurrentState": {"Code": 32, "Name": "shutting-down"}, "PreviousState": {"Code": 16, "Name": "running"}}
    return {"TerminatingInstances": [{"InstanceId": i, **gone} for i in fields["InstanceIds"]]}


def describe_reservations(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    known = {r["CapacityReservationId"]: r for r in world.reservations}
    for one in fields.get("CapacityReservationIds", ()):
        if one not in known:
            raise Refusal("InvalidCapacityReservationId.NotFound", f"The capacity reservation '{one}' does not exist.")
    return {"CapacityReservations": [known[i] for i in fields.get("CapacityReservationIds") or known]}


# --- EKS


def node_group(world: World, fields: Mapping[str, Any]) -> NodeGroup:
    key = (fields.get("clusterName", fields.get("name", "")), fields["nodegroupName"])
    if key not in world.nodes:
        raise Refusal("ResourceNotFoundException", f"No node group found for name: {key[1]}.", 404)
    return world.nodes[key]


def describe_node_group(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    n = node_group(world, fields)
    description = {
        "nodegroupName": n.name,
        "nodegroupArn": ARN.format(service="eks", rest=f"nodegroup/{n.cluster}/{n.name}/1"),
        "clusterName": n.cluster,
        "status": "UPDATING" if n.busy else "ACTIVE",
        "capacityType": "SPOT" if n.group.market == "spot" else "ON_DEMAND",
        "scalingConfig": {"minSize": n.group.min_size, "maxSize": n.group.max_size, "desiredSize": n.desired},
        "resources": {"autoScalingGroups": [{"name": n.group.name}]},
        "health": {"issues": n.issues},
    }
    return {"nodegroup": description}


def update_node_group(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    n, size = node_group(world, fields), fields["scalingConfig"]["desiredSize"]
    token = fields.get("clientRequestToken", str(uuid.uuid4()))
    if token in n.tokens:
        return {"update": n.updates[n.tokens[token]]}
    if n.busy:
        raise Refusal("ResourceInUseException", "Nodegroup cannot be updated as it is currently being updated", 409)
    if not n.group.min_size <= size <= n.group.max_size:
        raise Refusal("InvalidParameterException", f"desired capacity {size} is out of bounds")
    update: dict[str, Any] = {"id": str(uuid.uuid4()), "status": "InProgress", "type": "ConfigUpdate", "errors": []}
    update["params"] = [{"type": "DesiredSize", "value": str(size)}]
    n.tokens[token] = str(update["id"])
    n.updates[str(update["id"])] = update
    answer = dict(update)
    if not n.slow:
        finish(n)
    return {"update": answer}


def finish(n: NodeGroup, *, error: dict[str, Any] | None = None) -> None:
    """End the update in progress."""
    for update in n.updates.values():
        if update["status"] == "InProgress":
            update["status"] = "Successful" if error is None else "Failed"
            update["errors"] = [] if error is None else [error]
            if error is None:
                n.desired = n.group.desired = int(update["params"][0]["value"])


def describe_update(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    n = node_group(world, fields)
    if fields["updateId"] not in n.updates:
        raise Refusal("ResourceNotFoundException", "No update found for ID", 404)
    return {"update": n.updates[fields["updateId"]]}


# --- IAM


def simulate(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    """Return IAM's decision for each action."""
    allowed = world.granted
    return {
        "EvaluationResults": [
            {
                "EvalActionName": action,
                "EvalDecision": "allowed" if allowed is None or action in allowed else "implicitDeny",
                "EvalResourceName": fields["ResourceArns"][0],
            }
            for action in fields["ActionNames"]
        ]
    }


HANDLERS: Final[Mapping[tuple[str, str], Handler]] = {
    ("autoscaling", "DescribeAutoScalingGroups"): describe_groups,
    ("autoscaling", "DescribeScalingActivities"): describe_activities,
    ("autoscaling", "DescribeWarmPool"): describe_warm_pool,
    ("autoscaling", "LaunchInstances"): launch_instances,
    ("autoscaling", "PutWarmPool"): put_warm_pool,
    ("autoscaling", "SetDesiredCapacity"): set_desired,
    ("ec2", "CreateFleet"): create_fleet,
    ("ec2", "DescribeCapacityReservations"): describe_reservations,
    ("ec2", "DescribeFleetHistory"): describe_fleet_history,
    ("ec2", "DescribeFleetInstances"): describe_fleet_instances,
    ("ec2", "DescribeFleets"): describe_fleets,
    ("ec2", "DescribeInstances"): describe_instances,
    ("ec2", "ModifyFleet"): modify_fleet,
    ("ec2", "TerminateInstances"): terminate_instances,
    ("eks", "DescribeNodegroup"): describe_node_group,
    ("eks", "DescribeUpdate"): describe_update,
    ("eks", "UpdateNodegroupConfig"): update_node_group,
    ("iam", "SimulatePrincipalPolicy"): simulate,
}

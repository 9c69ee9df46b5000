"""The kinds of Karpenter on AWS, with the published schema of the fields that the examples set.

The API server removes every other field, so that a test that compares finds a misspelled one.
"""

from __future__ import annotations

from typing import Any, Final

from tests.servers.prometheus_operator import TEXT, TEXTS, definition, items, record

BOOLEAN: Final = {"type": "boolean"}
INTEGER: Final = {"type": "integer"}
NEVER_OR_DURATION: Final = {"type": "string", "pattern": "^(([0-9]+(s|m|h))+|Never)$"}
EFFECT: Final = {"type": "string", "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]}
OPERATOR: Final = {"type": "string", "enum": ["Gt", "Lt", "Exists", "DoesNotExist", "In", "NotIn"]}
CAPACITY: Final = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
NODE: Final = record(
    ("nodeClassRef", "requirements"),
    nodeClassRef=record(("group", "kind", "name"), group=TEXT, kind=TEXT, name=TEXT),
    requirements=items(record(("key", "operator"), key=TEXT, operator=OPERATOR, values=items(TEXT))),
    taints=items(record(("effect", "key"), key=TEXT, value=TEXT, effect=EFFECT)),
    expireAfter=NEVER_OR_DURATION,
)
NODE_POOL: Final = record(
    ("template",),
    template=record(("spec",), metadata=record(labels=TEXTS, annotations=TEXTS), spec=NODE),
    disruption=record(
        ("consolidateAfter",),
        consolidateAfter=NEVER_OR_DURATION,
        consolidationPolicy={"type": "string", "enum": ["WhenEmpty", "WhenEmptyOrUnderutilized"]},
    ),
    limits={"type": "object", "additionalProperties": CAPACITY},
    replicas=INTEGER,
)
TERM: Final = record(tags=TEXTS, id={"type": "string", "pattern": "^[a-z]+-[0-9a-z]+$"})
DISK: Final = record(
    volumeSize={"type": "string", "pattern": "^((?:[1-9][0-9]{0,3}|[1-4][0-9]{4}|[5][0-8][0-9]{3}|59000)Gi)$"},
    volumeType={"type": "string", "enum": ["standard", "io1", "io2", "gp2", "sc1", "st1", "gp3"]},
    throughput=INTEGER,
    iops=INTEGER,
    encrypted=BOOLEAN,
    deleteOnTermination=BOOLEAN,
)
NODE_CLASS: Final = record(
    ("amiSelectorTerms", "securityGroupSelectorTerms", "subnetSelectorTerms"),
    role={"type": "string", "minLength": 1},
    amiSelectorTerms=items(record(alias={"type": "string", "pattern": "^[a-zA-Z0-9]+@.+$"}, id=TEXT, tags=TEXTS)),
    subnetSelectorTerms=items(TERM),
    securityGroupSelectorTerms=items(TERM),
    blockDeviceMappings=items(record(deviceName=TEXT, rootVolume=BOOLEAN, ebs=DISK)),
)


def definitions() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions."""
    return [
        definition("karpenter.sh", "NodePool", "nodepools", NODE_POOL, scope="Cluster"),
        definition("karpenter.k8s.aws", "EC2NodeClass", "ec2nodeclasses", NODE_CLASS, scope="Cluster"),
    ]

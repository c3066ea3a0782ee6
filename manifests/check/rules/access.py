"""Roles: each part may do what it must with the one ConfigMap, and nothing else."""

from collections.abc import Iterator, Sequence

from manifests.check.objects import Json, Object, World

PARAMETERS = "headway-parameters"
# By the label app.kubernetes.io/name of whoever has the role.
VERBS = {
    "headway-predictor": {"get", "list", "watch"},
    "headway-dashboard": {"get", "patch"},
}
_NAME = "app.kubernetes.io/name"


def bindings_lead(world: World) -> Iterator[str]:
    """To a role and accounts that are there; a subject's namespace is never filled in."""
    for each in world.of("RoleBinding"):
        role = each.get("roleRef", "name")
        if each.get("roleRef", "kind") != "Role" or not _there(world, "Role", role, each):
            yield f"{each}: there is no Role {role}."
        for subject in each.get("subjects") or ():
            name, namespace = subject.get("name"), subject.get("namespace")
            if namespace != each.namespace:
                yield f"{each}: subject {name} is in namespace {namespace}, not {each.namespace}."
            elif not _there(world, "ServiceAccount", name, each):
                yield f"{each}: there is no ServiceAccount {name}."


def least_rights(world: World) -> Iterator[str]:
    for each in world.of("ClusterRole", "ClusterRoleBinding"):
        yield f"{each}: no right is needed beyond the namespace."
    for each in world.of("Role"):
        verbs = VERBS.get(each.labels.get(_NAME, ""), set())
        wanted = {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [PARAMETERS],
        }
        rules: Sequence[Json] = each.get("rules") or ()
        for rule in rules:
            scope = {key: value for key, value in rule.items() if key != "verbs"}
            if scope != wanted or not set(rule.get("verbs", ())) <= verbs:
                yield f"{each}: may have {_listed(verbs)} on ConfigMap {PARAMETERS}, no more."
        granted = {verb for rule in rules for verb in rule.get("verbs", ())}
        if not verbs <= granted:
            yield f"{each}: lacks {_listed(verbs - granted)} on ConfigMap {PARAMETERS}."


def accounts_bound(world: World) -> Iterator[str]:
    """An account of ours has a role, or its pods cannot read the parameters."""
    subjects = [
        s.get("name") for each in world.of("RoleBinding") for s in each.get("subjects") or ()
    ]
    for each in world.of("ServiceAccount"):
        if each.labels.get(_NAME) in VERBS and each.name not in subjects:
            yield f"{each}: no RoleBinding names it."


def _there(world: World, kind: str, name: str, beside: Object) -> bool:
    return world.find(kind, name, beside.namespace) is not None


def _listed(verbs: set[str]) -> str:
    return ", ".join(sorted(verbs)) or "no right"

package cluster

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// OtherPolicy is a policy of a kind that not every cluster has.
type OtherPolicy struct {
	ObjectRef
	// Admin is the policy, if its kind and all of its fields are understood.
	Admin *AdminPolicy
}

// policyGroups are the groups of the API whose policies allow or deny
// connections, beside Kubernetes' own.
var policyGroups = [...]string{"policy.networking.k8s.io", "cilium.io", "projectcalico.org", "crd.projectcalico.org", "crd.antrea.io"}

// HasPolicies says whether a group of the API has kinds that IsOtherPolicy knows.
func HasPolicies(group string) bool { return slices.Contains(policyGroups[:], group) }

// IsOtherPolicy says whether objects of this kind allow or deny connections,
// though they are no NetworkPolicy of Kubernetes' own.
func IsOtherPolicy(apiVersion, kind string) bool {
	group, _, _ := strings.Cut(apiVersion, "/")
	return HasPolicies(group) && strings.HasSuffix(kind, "NetworkPolicy") && !strings.HasPrefix(kind, "Staged")
}

// policiesMissing says which policies that may apply to one of the ends are not
// known, and why; empty if all are.
func (x *Index) policiesMissing(ends ...party) string {
	if !slices.ContainsFunc(ends, func(p party) bool { return p.pod != nil || x.missing["pods"] != "" }) {
		return ""
	}
	for _, r := range slices.Sorted(maps.Keys(x.missing)) {
		if strings.Contains(r, "policies") {
			return x.lacking(r)
		}
	}
	return ""
}

// KeepOtherPolicy returns what is kept of an object of which IsOtherPolicy
// says so, from its fields.
func KeepOtherPolicy(fields map[string]any) (OtherPolicy, error) {
	text, err := json.Marshal(fields)
	if err != nil {
		return OtherPolicy{}, err
	}
	apiVersion, _ := fields["apiVersion"].(string)
	kind, _ := fields["kind"].(string)
	return decodeOtherPolicy(text, typeMeta{apiVersion, kind})
}

// AddOtherPolicies adds policies of kinds that not every cluster has.
func (o *Objects) AddOtherPolicies(list []OtherPolicy) {
	for _, p := range list {
		switch {
		case p.Admin != nil:
			o.AdminPolicies = append(o.AdminPolicies, *p.Admin)
		// Calico's API shows Kubernetes' own policies once more, under this name.
		case !strings.HasPrefix(p.Name, "knp.default."):
			o.OtherPolicies = append(o.OtherPolicies, p.ObjectRef)
		}
	}
}

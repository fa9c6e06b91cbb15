package alibaba

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Files writes the facts as Decode reads them: a file for each action, with the
// fields that are kept, and the error in place of what failed.
func Files(f *Facts) (map[string][]byte, error) {
	files := map[string][]byte{}
	for i := range actions {
		a := &actions[i]
		if !f.Read[a.name] {
			continue
		}
		if a.name == describeNetworkACLs && f.Read[describeNetworkACL] {
			continue // they are the same facts
		}
		data, err := marshal(a.write(f))
		if err != nil {
			return nil, fmt.Errorf("writing %s: %w", a.name, err)
		}
		files[a.file()+".json"] = data
	}
	for i := range actions {
		a := &actions[i]
		reason, failed := f.Failed[a.name]
		if !failed {
			continue
		}
		data, err := marshal(map[string]string{"Code": reason})
		if err != nil {
			return nil, fmt.Errorf("writing %s: %w", a.name, err)
		}
		files[a.file()+".failed.json"] = data
	}
	return files, nil
}

// file is the name of an action's file, without what it ends in.
func (a *action) file() string {
	if a.shared {
		return a.name
	}
	_, short, _ := strings.Cut(a.name, ".")
	return short
}

// aclAttributes is one response for each network ACL.
func aclAttributes(f *Facts) any {
	type attribute struct{ NetworkAclAttribute NetworkACL }
	responses := make([]attribute, len(f.NetworkACLs))
	for i := range f.NetworkACLs {
		responses[i].NetworkAclAttribute = f.NetworkACLs[i]
	}
	return responses
}

// marshal leaves out what is empty: most fields of most resources are.
func marshal(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var tree any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	if tree = prune(tree); tree == nil {
		tree = map[string]any{}
		if raw[0] != '{' {
			tree = []any{} // no responses, rather than one about nothing
		}
	}
	data, err := json.MarshalIndent(tree, "", " ")
	return append(data, '\n'), err
}

func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, member := range v {
			if member = prune(member); member == nil {
				delete(v, key)
			} else {
				v[key] = member
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		if len(v) == 0 {
			return nil
		}
		for i := range v {
			if v[i] = prune(v[i]); v[i] == nil {
				v[i] = map[string]any{}
			}
		}
	case string:
		if v == "" {
			return nil
		}
	case bool:
		if !v {
			return nil
		}
	}
	return v
}

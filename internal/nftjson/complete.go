package nftjson

// This file completes what "nft -j list ruleset" prints with what the kernel
// says over netlink: releases of nft up to 1.0.8 leave the devices of chains
// out, and those up to 1.0.6 print garbage for the flags of tables. It leaves
// every other byte as it is.

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Table is what the kernel says of a table.
type Table struct {
	Family, Name string
	// Flags are NFT_TABLE_F_*.
	Flags uint32
}

// Chain is what the kernel says of a base chain at a device.
type Chain struct {
	Family, Table, Name string
	// Devices are names of devices; one that ends in "*" stands for all that
	// begin so.
	Devices []string
}

// Names of NFT_TABLE_F_*, from the lowest bit on.
var tableFlags = []string{"dormant", "owner", "persist"}

// Complete returns data, the output of nft, with the flags of tables and the
// devices of chains as the kernel says them.
func Complete(data []byte, tables []Table, chains []Chain) ([]byte, error) {
	if !bytes.Contains(data, []byte(`"flags"`)) && len(chains) == 0 {
		return data, nil
	}
	var document struct {
		List []json.RawMessage `json:"nftables"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("output of nft: %w", err)
	}
	changed := false
	for i, entry := range document.List {
		switch {
		case bytes.HasPrefix(entry, []byte(`{"table"`)):
			t, err := completeTable(entry, tables)
			if err != nil {
				return nil, err
			}
			changed = changed || t != nil
			document.List[i] = either(t, entry)
		case bytes.HasPrefix(entry, []byte(`{"chain"`)):
			c, err := completeChain(entry, chains)
			if err != nil {
				return nil, err
			}
			changed = changed || c != nil
			document.List[i] = either(c, entry)
		}
	}
	if !changed {
		return data, nil
	}
	var out bytes.Buffer
	out.WriteString(`{"nftables": [`)
	for i, entry := range document.List {
		if i > 0 {
			out.WriteString(", ")
		}
		out.Write(entry)
	}
	out.WriteString("]}\n")
	return out.Bytes(), nil
}

func either(a, b json.RawMessage) json.RawMessage {
	if a != nil {
		return a
	}
	return b
}

// head is the beginning of a table or chain as nft prints it.
type head struct {
	Family string `json:"family"`
	Table  string `json:"table"`
	Name   string `json:"name"`
	// Flags and Dev are what may be wrong or missing.
	Flags json.RawMessage `json:"flags"`
	Dev   json.RawMessage `json:"dev"`
}

// completeTable returns the table with its flags; nil when they are right.
func completeTable(entry json.RawMessage, tables []Table) (json.RawMessage, error) {
	var object struct {
		Table head `json:"table"`
	}
	if err := json.Unmarshal(entry, &object); err != nil {
		return nil, fmt.Errorf("output of nft: %w", err)
	}
	if object.Table.Flags == nil {
		return nil, nil
	}
	for _, t := range tables {
		if t.Family != object.Table.Family || t.Name != object.Table.Name {
			continue
		}
		flags := []string{}
		for i, name := range tableFlags {
			if t.Flags&(1<<i) != 0 {
				flags = append(flags, name)
			}
		}
		return replace(entry, object.Table.Flags, flags)
	}
	return nil, nil
}

// completeChain returns the chain with its devices; nil when it has them, or is
// at none.
func completeChain(entry json.RawMessage, chains []Chain) (json.RawMessage, error) {
	if len(chains) == 0 {
		return nil, nil
	}
	var object struct {
		Chain head `json:"chain"`
	}
	if err := json.Unmarshal(entry, &object); err != nil {
		return nil, fmt.Errorf("output of nft: %w", err)
	}
	h := object.Chain
	if h.Dev != nil {
		return nil, nil
	}
	for _, c := range chains {
		if c.Family != h.Family || c.Table != h.Table || c.Name != h.Name {
			continue
		}
		devices, err := json.Marshal(c.Devices)
		if err != nil {
			return nil, err
		}
		body, ok := bytes.CutSuffix(bytes.TrimSpace(entry), []byte("}}"))
		if !ok {
			return nil, fmt.Errorf("output of nft: chain %s ends strangely", c.Name)
		}
		return append(append(bytes.Clone(body), `, "dev": `...), append(devices, "}}"...)...), nil
	}
	return nil, nil
}

// replace puts another value in the place of flags.
func replace(entry, old json.RawMessage, flags []string) (json.RawMessage, error) {
	text, err := json.Marshal(flags)
	if err != nil {
		return nil, err
	}
	at := bytes.LastIndex(entry, old) // the last member of a table
	return append(append(bytes.Clone(entry[:at]), text...), entry[at+len(old):]...), nil
}

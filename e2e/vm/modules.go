package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// wanted are the modules that the machine loads when it starts, by name or
// pattern; what they depend on comes with them. Nothing is loaded later, so a
// test sees the kernel of a host on which all of this is in use.
var wanted = strings.Fields(`
	nfnetlink* nf_* nft_* x_tables xt_* ts_* ip_set* ip_vs*
	ip_tables iptable_* ipt_* arp_tables arptable_* arpt_* ip6_tables ip6table_* ip6t_* ebtables ebtable_* ebt_*
	veth bridge br_netfilter 8021q bonding vrf dummy ifb tun tap macvlan macvtap ipvlan vxlan geneve wireguard
	ipip sit ip_gre ip6_gre ip6_tunnel fou fou6 xfrm_user xfrm_interface esp4 esp6 ah4 ah6 af_key
	sch_ingress sch_tbf sch_netem sch_htb sch_prio sch_fq cls_* act_* em_*
	virtio_pci virtio_net
	sctp inet_diag tcp_diag udp_diag raw_diag sctp_diag unix_diag af_packet_diag`)

// unwanted are modules that match but would change the host for everyone:
// helpers of protocols, and what answers in the place of others.
var unwanted = strings.Fields(`
	*_amanda *_ftp *_h323 *_irc *_netbios_ns *_pptp *_sane *_sip *_snmp* *_tftp
	ipt_CLUSTERIP xt_LED ebtable_broute act_ct`)

// parameters keep modules from making devices of their own.
var parameters = map[string]string{"bonding": "max_bonds=0", "dummy": "numdummies=0", "ifb": "numifbs=0"}

// module is a file of the kernel's module tree.
type module struct {
	path    string
	depends []string
}

// modules lists the files below dir that have to be loaded, dependencies first.
func modules(dir string) ([]string, error) {
	all := make(map[string]module)
	var names []string // in the order of the tree, which is stable
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".ko") {
			return err
		}
		depends, err := dependencies(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		name := moduleName(strings.TrimSuffix(filepath.Base(path), ".ko"))
		all[name] = module{path, depends}
		names = append(names, name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	var list []string
	done := make(map[string]bool)
	var add func(name string)
	add = func(name string) {
		m, isModule := all[name]
		if done[name] || !isModule { // built into the kernel
			return
		}
		done[name] = true
		for _, d := range m.depends {
			add(d)
		}
		list = append(list, m.path)
	}
	for _, pattern := range wanted {
		found := false
		for _, name := range names {
			if matches(pattern, name) && !slices.ContainsFunc(unwanted, func(u string) bool { return matches(u, name) }) {
				add(name)
				found = true
			}
		}
		if !found {
			return nil, fmt.Errorf("the kernel has no module %s", pattern)
		}
	}
	return list, nil
}

func matches(pattern, name string) bool {
	ok, err := filepath.Match(moduleName(pattern), name)
	return ok && err == nil
}

// moduleName is what the kernel calls a module: file names have hyphens.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// dependencies reads what a module says of itself.
func dependencies(path string) ([]string, error) {
	file, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("not a kernel module")
	}
	data, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range bytes.SplitSeq(data, []byte{0}) {
		if value, ok := strings.CutPrefix(string(field), "depends="); ok && value != "" {
			return strings.Split(moduleName(value), ","), nil
		}
	}
	return nil, nil
}

package collector

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctls are the settings that decide what happens to a packet, as globs of
// files below /proc/sys; a pattern that ends in a slash means all files of that
// directory. Reading every setting would cost ten times as much.
var sysctls = []string{
	"net/ipv4/conf/*/{accept_local,accept_source_route,arp_accept,arp_announce,arp_filter,arp_ignore,bc_forwarding,disable_policy,disable_xfrm," +
		"drop_gratuitous_arp,drop_unicast_in_l2_multicast,forwarding,ignore_routes_with_linkdown,log_martians,mc_forwarding,medium_id,proxy_arp," +
		"proxy_arp_pvlan,route_localnet,rp_filter,send_redirects,shared_media,src_valid_mark}",
	"net/ipv6/conf/*/{accept_dad,accept_ra,accept_source_route,addr_gen_mode,autoconf,disable_ipv6,disable_policy,drop_unicast_in_l2_multicast," +
		"force_forwarding,forwarding,hop_limit,ignore_routes_with_linkdown,mtu,optimistic_dad,proxy_ndp,rpl_seg_enabled,seg6_enabled,use_oif_addrs_only,use_optimistic,use_tempaddr}",
	"net/ipv4/{fib_multipath_hash_fields,fib_multipath_hash_policy,fib_multipath_use_neigh,fwmark_reflect,icmp_echo_ignore_all," +
		"icmp_echo_ignore_broadcasts,icmp_errors_use_inbound_ifaddr,icmp_msgs_burst,icmp_msgs_per_sec,icmp_ratelimit,icmp_ratemask," +
		"ip_default_ttl,ip_early_demux,ip_forward,ip_forward_update_priority,ip_forward_use_pmtu,ip_local_port_range," +
		"ip_local_reserved_ports,ip_no_pmtu_disc,ip_nonlocal_bind,ip_unprivileged_port_start,nexthop_compat_mode,ping_group_range," +
		"raw_l3mdev_accept,tcp_abort_on_overflow,tcp_base_mss,tcp_fwmark_accept,tcp_l3mdev_accept,tcp_max_syn_backlog,tcp_mtu_probing," +
		"tcp_sack,tcp_syncookies,tcp_timestamps,tcp_window_scaling,udp_early_demux,udp_l3mdev_accept}",
	"net/ipv4/route/{min_adv_mss,min_pmtu}",
	"net/ipv4/vs/",
	"net/ipv6/{bindv6only,fib_multipath_hash_fields,fib_multipath_hash_policy,flowlabel_consistency,fwmark_reflect,ip_nonlocal_bind}",
	"net/ipv6/icmp/",
	"net/ipv6/route/{max_size,min_adv_mss,mtu_expires}",
	"net/bridge/",
	"net/core/{somaxconn,default_qdisc}",
	"net/mptcp/enabled",
	"net/sctp/{l3mdev_accept,rto_initial}",
	"net/netfilter/{nf_conntrack_acct,nf_conntrack_buckets,nf_conntrack_checksum,nf_conntrack_count,nf_conntrack_helper,nf_conntrack_max," +
		"nf_conntrack_sctp_timeout_cookie_echoed,nf_conntrack_tcp_be_liberal,nf_conntrack_tcp_ignore_invalid_rst,nf_conntrack_tcp_loose,nf_hooks_lwtunnel," +
		"nf_conntrack_tcp_timeout_established,nf_conntrack_udp_timeout,nf_conntrack_udp_timeout_stream}",
	"net/nf_conntrack_max",
}

// readSysctls reads the settings of the namespace that the calling thread is
// in: /proc/sys/net shows each thread those of its own. What this kernel does
// not have is left out, and so is what may only be written.
func readSysctls(_ context.Context, t *target) error {
	root := t.proc + "/sys"
	t.ns.Sysctls = make(map[string]string, 256)
	reader := sysctlReader{root: root, fd: -1, buf: make([]byte, 4096)}
	defer reader.close()
	read := make(map[string]string)
	told, _ := readDevconf(t, func(file string) bool { // what it fails to tell, files do
		value, err := reader.read(file)
		if err == nil {
			read[file] = value
		}
		return err == nil
	})
	for _, pattern := range sysctls {
		files, err := expandSysctls(root, pattern)
		if err != nil {
			return err
		}
		for _, file := range files {
			value, ok := told[file]
			if !ok {
				value, ok = read[file]
			}
			if ok {
				t.ns.Sysctls[sysctlKey(file)] = value
				continue
			}
			value, err := reader.read(file)
			switch {
			case err == nil:
				t.ns.Sysctls[sysctlKey(file)] = value
			case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.EINVAL):
				// Not in this kernel or only in the first namespace; or the
				// interface is gone since the directory was listed.
			default:
				return fmt.Errorf("read sysctl %s: %w", sysctlKey(file), err)
			}
		}
	}
	if len(t.ns.Sysctls) == 0 {
		return fmt.Errorf("no net.* sysctl found below %s", root)
	}
	return nil
}

// expandSysctls lists the files that one pattern of sysctls stands for. Names
// in braces are not looked for in their directory: reading tells.
func expandSysctls(root, pattern string) ([]string, error) {
	dir, names := pattern, []string(nil)
	if dir, ok := strings.CutSuffix(pattern, "/"); ok {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			return nil, ignore(err, fs.ErrNotExist)
		}
		var files []string
		for _, entry := range entries {
			if !entry.IsDir() {
				files = append(files, dir+"/"+entry.Name())
			}
		}
		return files, nil
	}
	if before, list, ok := strings.Cut(pattern, "/{"); ok {
		dir, names = before, strings.Split(strings.TrimSuffix(list, "}"), ",")
	} else {
		return []string{pattern}, nil
	}
	dirs := []string{dir}
	if parent, ok := strings.CutSuffix(dir, "/*"); ok {
		entries, err := os.ReadDir(filepath.Join(root, parent))
		if err != nil {
			return nil, ignore(err, fs.ErrNotExist)
		}
		dirs = dirs[:0]
		for _, entry := range entries {
			dirs = append(dirs, parent+"/"+entry.Name())
		}
	}
	files := make([]string, 0, len(dirs)*len(names))
	for _, dir := range dirs {
		for _, name := range names {
			files = append(files, dir+"/"+name)
		}
	}
	return files, nil
}

func ignore(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return err
}

// sysctlKey is the key of a file as sysctl(8) prints it: slashes become dots,
// and dots, which are in an interface's name, slashes.
func sysctlKey(file string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '/':
			return '.'
		case '.':
			return '/'
		}
		return r
	}, file)
}

// sysctlReader reads files below root without the overhead of os.ReadFile, which
// tells with thousands of them. It keeps the directory of the last one open: to
// go there from the root takes the kernel longer the more namespaces there are, as
// each has directories of the same names, and most of the time that a pod takes.
type sysctlReader struct {
	root string
	dir  string // that fd is open at
	fd   int    // -1 for none
	buf  []byte
}

func (r *sysctlReader) read(file string) (string, error) {
	dir, name := path.Split(file)
	if r.fd < 0 || dir != r.dir {
		r.close()
		var err error
		if r.fd, err = unix.Open(r.root+"/"+dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return "", err
		}
		r.dir = dir
	}
	fd, err := unix.Openat(r.fd, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, r.buf)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(r.buf[:n]), "\n"), nil
}

func (r *sysctlReader) close() {
	if r.fd >= 0 {
		_ = unix.Close(r.fd)
		r.fd = -1
	}
}

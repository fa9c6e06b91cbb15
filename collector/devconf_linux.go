package collector

import (
	"encoding/binary"
	"strconv"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// devconf says where in its list of an interface's settings the kernel tells each
// of a family: IPV4_DEVCONF_… of <linux/ip.h>, which count from one, and DEVCONF_…
// of <linux/ipv6.h>. To read the same from files takes a system call or three for
// each, and most of the time that a node takes.
var devconf = []struct {
	family uint16
	list   uint16 // attribute
	dir    string
	at     map[string]int
}{
	{unix.AF_INET, unix.IFLA_INET_CONF, "net/ipv4/conf/", map[string]int{
		"forwarding": 0, "mc_forwarding": 1, "proxy_arp": 2, "send_redirects": 5, "shared_media": 6, "rp_filter": 7, "accept_source_route": 8,
		"log_martians": 10, "arp_filter": 12, "medium_id": 13, "disable_xfrm": 14, "disable_policy": 15, "arp_announce": 17, "arp_ignore": 18, "arp_accept": 20,
		"accept_local": 22, "src_valid_mark": 23, "proxy_arp_pvlan": 24, "route_localnet": 25, "ignore_routes_with_linkdown": 28,
		"drop_unicast_in_l2_multicast": 29, "drop_gratuitous_arp": 30, "bc_forwarding": 31,
	}},
	{unix.AF_INET6, unix.IFLA_INET6_CONF, "net/ipv6/conf/", map[string]int{
		"forwarding": 0, "hop_limit": 1, "mtu": 2, "accept_ra": 3, "autoconf": 5, "use_tempaddr": 10, "proxy_ndp": 22, "optimistic_dad": 23,
		"accept_source_route": 24, "disable_ipv6": 26, "accept_dad": 27, "use_optimistic": 34, "use_oif_addrs_only": 37,
		"ignore_routes_with_linkdown": 39, "drop_unicast_in_l2_multicast": 40, "seg6_enabled": 44, "addr_gen_mode": 47, "disable_policy": 48,
		"rpl_seg_enabled": 51,
	}},
}

// readDevconf returns settings of interfaces by their file below /proc/sys, as
// far as the kernel tells them with the links. It tells of some that it was built
// without: only those are taken that the device "default" has.
func readDevconf(t *target, has func(file string) bool) (map[string]string, error) {
	conn, err := t.rtnetlink()
	if err != nil {
		return nil, err
	}
	request, err := linkRequest()
	if err != nil {
		return nil, err
	}
	links, err := dump(conn, unix.RTM_GETLINK, request)
	if err != nil {
		return nil, err
	}
	names := make([]map[string]int, len(devconf))
	for i, d := range devconf {
		names[i] = make(map[string]int, len(d.at))
		for name, at := range d.at {
			if has(d.dir + "default/" + name) {
				names[i][name] = at
			}
		}
	}
	files := make(map[string]string)
	for _, body := range links {
		dev, lists := "", make([][]byte, len(devconf))
		err := attributes(body, unix.SizeofIfInfomsg, func(ad *netlink.AttributeDecoder) error {
			switch ad.Type() {
			case unix.IFLA_IFNAME:
				dev = ad.String()
			case unix.IFLA_AF_SPEC:
				ad.Nested(func(families *netlink.AttributeDecoder) error {
					for families.Next() {
						for i, d := range devconf {
							if families.Type() == d.family {
								families.Nested(func(of *netlink.AttributeDecoder) error {
									for of.Next() {
										if of.Type() == d.list {
											lists[i] = of.Bytes()
										}
									}
									return nil
								})
							}
						}
					}
					return nil
				})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		for i, list := range lists {
			for name, at := range names[i] {
				if end := 4 * (at + 1); end <= len(list) {
					files[devconf[i].dir+dev+"/"+name] = strconv.Itoa(int(int32(binary.NativeEndian.Uint32(list[end-4:]))))
				}
			}
		}
	}
	return files, nil
}

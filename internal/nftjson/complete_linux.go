package nftjson

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// nfgenmsg is the size of struct nfgenmsg.
const nfgenmsg = 4

// Attributes that package unix does not know.
const (
	nftaTableFlags   = 2
	nftaHookDevice   = 3
	nftaHookDevices  = 4
	nftaDeviceName   = 1
	nftaDevicePrefix = 2
)

// families are the names of NFPROTO_*.
var families = map[byte]string{
	unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_ARP: "arp", unix.NFPROTO_NETDEV: "netdev",
	unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_IPV6: "ip6",
}

// Read asks the kernel for tables, and for the base chains at devices.
func Read(conn *netlink.Conn) (tables []Table, chains []Chain, err error) {
	err = dump(conn, unix.NFT_MSG_GETTABLE, func(family string, ad *netlink.AttributeDecoder) {
		t := Table{Family: family}
		for ad.Next() {
			switch ad.Type() {
			case unix.NFTA_TABLE_NAME:
				t.Name = ad.String()
			case nftaTableFlags:
				t.Flags = uint32Of(ad)
			}
		}
		tables = append(tables, t)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list the tables of nftables: %w", err)
	}
	err = dump(conn, unix.NFT_MSG_GETCHAIN, func(family string, ad *netlink.AttributeDecoder) {
		c := Chain{Family: family}
		for ad.Next() {
			switch ad.Type() {
			case unix.NFTA_CHAIN_TABLE:
				c.Table = ad.String()
			case unix.NFTA_CHAIN_NAME:
				c.Name = ad.String()
			case unix.NFTA_CHAIN_HOOK:
				ad.Nested(func(hook *netlink.AttributeDecoder) error {
					c.Devices = devices(hook)
					return nil
				})
			}
		}
		if c.Devices != nil {
			chains = append(chains, c)
		}
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list the chains of nftables: %w", err)
	}
	return tables, chains, nil
}

// devices reads where a base chain hangs: one device, or a list.
func devices(hook *netlink.AttributeDecoder) (names []string) {
	one := ""
	for hook.Next() {
		switch hook.Type() {
		case nftaHookDevice:
			one = hook.String()
		case nftaHookDevices: // which has the one device, too
			hook.Nested(func(list *netlink.AttributeDecoder) error {
				for list.Next() {
					switch list.Type() {
					case nftaDeviceName:
						names = append(names, list.String())
					case nftaDevicePrefix:
						names = append(names, list.String()+"*")
					}
				}
				return nil
			})
		}
	}
	if names == nil && one != "" {
		return []string{one}
	}
	return names
}

func uint32Of(ad *netlink.AttributeDecoder) uint32 {
	if b := ad.Bytes(); len(b) == 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func dump(conn *netlink.Conn, request uint16, object func(family string, ad *netlink.AttributeDecoder)) error {
	replies, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | request), Flags: netlink.Request | netlink.Dump},
		Data:   make([]byte, nfgenmsg),
	})
	if err != nil {
		return err
	}
	for _, reply := range replies {
		if len(reply.Data) < nfgenmsg {
			return fmt.Errorf("netlink message of %d bytes", len(reply.Data))
		}
		ad, err := netlink.NewAttributeDecoder(reply.Data[nfgenmsg:])
		if err != nil {
			return err
		}
		object(families[reply.Data[0]], ad)
		if err := ad.Err(); err != nil {
			return err
		}
	}
	return nil
}

package collector

import (
	"context"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// readXFRM writes the policies of IPsec as `ip xfrm policy` does, as far as it
// takes to say which packets they are about.
func readXFRM(_ context.Context, t *target) error {
	t.ns.XFRM.File = t.file("xfrm.txt")
	if !t.host.has("xfrm_user", "xfrm_dump_policy") {
		return fmt.Errorf("xfrm_user is not loaded: %w", ErrNotSupported)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_XFRM)
	if err != nil {
		return fmt.Errorf("open a socket for xfrm: %w", notSupported(err))
	}
	defer handle.Close()
	policies, err := retry(func() ([]netlink.XfrmPolicy, error) { return handle.XfrmPolicyList(netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("read xfrm policies: %w", notSupported(err))
	}
	var text strings.Builder
	for i := range policies {
		p := &policies[i]
		fmt.Fprintf(&text, "src %s dst %s\n\t%s action %s priority %d\n", p.Src, p.Dst, p.Dir, p.Action, p.Priority)
		for _, tmpl := range p.Tmpls {
			fmt.Fprintf(&text, "\ttmpl src %s dst %s\n\t\tproto %s reqid %d mode %s\n", tmpl.Src, tmpl.Dst, tmpl.Proto, tmpl.Reqid, tmpl.Mode)
		}
	}
	t.ns.XFRM.Data = []byte(text.String())
	return nil
}

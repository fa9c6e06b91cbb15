package collector

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/internal/netlinklist"
	"github.com/plumbline-net/plumbline/internal/nftjson"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// nfgenmsg is the size of struct nfgenmsg, the header of all nfnetlink messages.
const nfgenmsg = 4

// nftRetries bounds how often a rule set is read again that was changed while
// it was read.
const nftRetries = 3

// nftTable is a table of nftables.
type nftTable struct {
	family uint8 // NFPROTO_*
	name   string
}

// nftState is what the kernel says of nftables at little cost: which tables
// there are, and the generation of the rule set, which changes with it.
type nftState struct {
	generation uint32
	tables     []nftTable
}

// ruleCache holds the dumps of one namespace's nftables of one generation, and of its legacy tables.
type ruleCache struct {
	generation uint32
	dumps      map[string][]byte // by the tool that printed them
	// live is the rule set as the kernel has it; nil if the tool was asked.
	live *nftjson.RuleSet
	// names are the interfaces as they were when the dumps were made.
	names  map[int]string
	legacy map[string]legacyDump // by the tool
	used   bool                  // in the current run
}

// current says whether the dumps are still those of a generation, with the interfaces that there are by now. Rules have
// indices of interfaces, and dumps their names; chains whose interfaces are gone are gone, too.
func (c *ruleCache) current(generation uint32, names map[int]string) bool {
	if c.generation != generation || c.dumps == nil || names == nil {
		return false
	}
	differ := func(a, b map[int]string) bool {
		for index, name := range a {
			if b[index] != name && (c.live == nil || c.live.Mentions(index, name)) {
				return true
			}
		}
		return false
	}
	return !differ(c.names, names) && !differ(names, c.names)
}

// nftables asks for the state of nftables, once in a run. ErrNotSupported
// means that the kernel has no nftables, or that it is not loaded.
func (t *target) nftables() (*nftState, error) {
	if t.nft != nil {
		return t.nft, nil
	}
	if !t.host.has("nf_tables", "nf_tables_newtable") {
		return nil, fmt.Errorf("nftables is not loaded: %w", ErrNotSupported)
	}
	conn, err := dialNetlink(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, notSupported(err)
	}
	defer conn.Close()
	state, err := queryNFT(conn)
	if err != nil {
		return nil, fmt.Errorf("ask for the tables of nftables: %w", err)
	}
	t.nft = state
	return state, nil
}

func queryNFT(conn *netlinkConn) (*nftState, error) {
	state := new(nftState)
	const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8
	replies, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: subsystem | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   make([]byte, nfgenmsg),
	})
	if err != nil {
		// A kernel without nftables knows no such subsystem.
		if errors.Is(err, unix.EINVAL) {
			return nil, fmt.Errorf("%w: %w", ErrNotSupported, err)
		}
		return nil, notSupported(err)
	}
	for _, reply := range replies {
		err := attributes(reply.Data, nfgenmsg, func(ad *netlink.AttributeDecoder) error {
			if ad.Type() == unix.NFTA_GEN_ID {
				if b := ad.Bytes(); len(b) == 4 {
					state.generation = binary.BigEndian.Uint32(b)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	state.tables, err = listOf(conn, subsystem|unix.NFT_MSG_GETTABLE, make([]byte, nfgenmsg), func(body []byte) (table nftTable, err error) {
		err = attributes(body, nfgenmsg, func(ad *netlink.AttributeDecoder) error {
			if ad.Type() == unix.NFTA_TABLE_NAME {
				table.name = ad.String()
			}
			return nil
		})
		if err == nil {
			table.family = body[0]
		}
		return table, err
	})
	return state, err
}

// nftDump returns what read does of nftables, from the cache if the rule set is
// still the one that was read, and read says that it may be kept. What was read
// while the rule set changed is read again, also when it failed.
func (t *target) nftDump(name string, read func() (data []byte, keep bool, err error)) ([]byte, error) {
	for range nftRetries {
		before, err := t.nftables()
		if err != nil {
			return nil, err
		}
		if !t.rules.current(before.generation, t.names) {
			t.rules.dumps, t.rules.live = make(map[string][]byte), nil
			t.rules.generation, t.rules.names = before.generation, t.names
		}
		if data, ok := t.rules.dumps[name]; ok {
			return data, nil
		}
		data, keep, readErr := read()
		t.nft = nil
		after, err := t.nftables()
		if err != nil {
			return nil, errors.Join(readErr, err)
		}
		if after.generation == before.generation {
			if readErr == nil && keep {
				t.rules.dumps[name] = data
			}
			return data, readErr
		}
	}
	return nil, netlinklist.ErrInterrupted
}

// ruleSet returns the whole rule set as "nft -j list ruleset" prints it. It
// asks the kernel itself; for what is not understood of its answer it asks the
// tool, which may be newer, and adds what its release leaves out. Of a rule set
// that the kernel was asked for before, only what may have changed is read; what
// the tool printed may be kept if nothing may have.
func (t *target) ruleSet(ctx context.Context) (data []byte, keep bool, err error) {
	rules := t.rules.live
	t.rules.live = nil
	if rules != nil {
		err = rules.Refresh(t.deviceName)
	} else {
		rules, err = nftjson.Live(t.deviceName)
	}
	if err == nil {
		t.rules.live = rules
		return rules.Data, false, nil
	}
	var unknown *nftjson.NotUnderstood
	if !errors.As(err, &unknown) {
		return nil, false, err
	}
	t.note = "asked nft: " + err.Error()
	data, toolErr := t.host.tools.run(ctx, "nft", "-j", "list", "ruleset")
	if toolErr != nil {
		return nil, false, errors.Join(err, toolErr)
	}
	conn, err := dialNetlink(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, false, err
	}
	defer conn.Close()
	tables, chains, err := nftjson.Read(conn.Conn)
	if err != nil {
		return nil, false, err
	}
	volatile, err := anyVolatileSets(conn)
	if err != nil {
		return nil, false, err
	}
	keep = !volatile && !changesSets.Match(data)
	data, err = nftjson.Complete(data, tables, chains)
	return data, keep, err
}

// changesSets is in what nft prints of rules that add elements to sets or remove them, for which the sets need no flag.
var changesSets = regexp.MustCompile(`"op": ?"(add|update|delete)"|"(add|update|delete) @`)

// anyVolatileSets asks whether there are sets whose elements time out, or come and go with packets.
func anyVolatileSets(conn *netlinkConn) (volatile bool, err error) {
	_, err = listOf(conn, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETSET, make([]byte, nfgenmsg), func(body []byte) (none struct{}, err error) {
		return none, attributes(body, nfgenmsg, func(ad *netlink.AttributeDecoder) error {
			if b := ad.Bytes(); ad.Type() == unix.NFTA_SET_FLAGS && len(b) == 4 {
				volatile = volatile || binary.BigEndian.Uint32(b)&(unix.NFT_SET_TIMEOUT|unix.NFT_SET_EVAL) != 0
			}
			return nil
		})
	})
	if err != nil {
		return false, fmt.Errorf("ask for the sets of nftables: %w", err)
	}
	return volatile, nil
}

// deviceName names an interface for rules; "" if there is none with that index.
func (t *target) deviceName(index int) string {
	if t.names == nil {
		if i, err := net.InterfaceByIndex(index); err == nil {
			return i.Name
		}
	}
	return t.names[index]
}

// readNFT reads the whole rule set, if there is any. What iptables-nft-save printed of another is printed again: rules
// are found in both by their number.
func readNFT(ctx context.Context, t *target) error {
	t.ns.NFT.File = t.file("nft.json")
	state, err := t.nftables()
	if err != nil {
		return err
	}
	if len(state.tables) == 0 {
		return nil
	}
	for tries := 0; ; tries++ {
		t.ns.NFT.Data, err = t.nftDump("nft", func() ([]byte, bool, error) { return t.ruleSet(ctx) })
		if err != nil || t.saved == 0 || t.saved == t.rules.generation || tries == nftRetries {
			return err
		}
		t.saved = 0
		for i := range t.ns.IPTables {
			if d := &t.ns.IPTables[i]; d.Backend == netstack.BackendNFT {
				if *d, err = t.iptablesNFT(ctx, d.Family); err != nil {
					return err
				}
			}
		}
	}
}

// iptablesTables are the tables that iptables-nft keeps in nftables. A table of
// that name need not be one of iptables-nft: the tool says so in its output.
var iptablesTables = []string{"filter", "nat", "mangle", "raw", "security"}

// readIPTablesNFT prints the rules that iptables-nft put into nftables.
func readIPTablesNFT(family netstack.Family) func(context.Context, *target) error {
	return func(ctx context.Context, t *target) error {
		dump, err := t.iptablesNFT(ctx, family)
		if err == nil {
			t.ns.IPTables = append(t.ns.IPTables, dump)
		}
		return err
	}
}

// iptablesNFT runs the tool only where a table is that could be its own.
func (t *target) iptablesNFT(ctx context.Context, family netstack.Family) (dump netstack.IPTablesDump, err error) {
	tool, file, protocol := "iptables-nft-save", "iptables-save.txt", uint8(unix.NFPROTO_IPV4)
	if family == netstack.IPv6 {
		tool, file, protocol = "ip6tables-nft-save", "ip6tables-save.txt", unix.NFPROTO_IPV6
	}
	state, err := t.nftables()
	if err != nil {
		return dump, err
	}
	var tables []string
	for _, table := range state.tables {
		if table.family == protocol && slices.Contains(iptablesTables, table.name) {
			tables = append(tables, table.name)
		}
	}
	dump = netstack.IPTablesDump{Family: family, Backend: netstack.BackendNFT, Text: netstack.Text{File: t.file(file)}}
	if len(tables) > 0 {
		dump.Data, err = t.nftDump(tool, func() ([]byte, bool, error) {
			data, err := t.saveNFT(ctx, tool, protocol, tables)
			return data, true, err
		})
		if t.saved == 0 {
			t.saved = t.rules.generation
		}
	}
	return dump, err
}

// saveNFT returns what the tool prints. It does not print tables with rules or chains of others that it cannot read, or
// fails: then the chains that it can read are printed one by one, and the others named (docs/nftables.md).
func (t *target) saveNFT(ctx context.Context, tool string, family uint8, tables []string) ([]byte, error) {
	data, err := t.host.tools.save(ctx, tool)
	if err != nil && !toolFailed(ctx, err) {
		return nil, err
	}
	if err == nil && !bytes.Contains(data, incompatible) {
		return data, nil
	}
	t.note = "read chain by chain: " + cmp.Or(err, errIncompatible).Error()
	data = nil
	for _, table := range tables {
		text, err := t.host.tools.save(ctx, tool, "-t", table)
		if err != nil && !toolFailed(ctx, err) {
			return nil, err
		}
		if err != nil || bytes.Contains(text, incompatible) {
			if text, err = t.saveChains(ctx, strings.TrimSuffix(tool, "-save"), family, table); err != nil {
				return nil, err
			}
		}
		data = append(data, text...)
	}
	return data, nil
}

// toolFailed says whether a tool ran and failed of itself: then it may be asked in another way.
func toolFailed(ctx context.Context, err error) bool {
	var failed *exec.ExitError
	return ctx.Err() == nil && errors.As(err, &failed)
}

// incompatible is in what iptables-nft-save prints instead of a table.
var incompatible = []byte(" is incompatible, use 'nft' tool.")

var errIncompatible = errors.New("iptables-nft-save does not print a table")

// nameOfChain are names that iptables takes for those of chains, not for options. nftables itself takes any.
var nameOfChain = regexp.MustCompile(`^[0-9A-Za-z_][!-~]*$`)

// maxChains is how many chains are printed one by one.
const maxChains = 256

// saveChains returns the table as iptables-save would print it, without the rules of chains that the tool cannot read.
// It returns nothing of a table with too many chains, or where the tool is not installed: nftables shows it.
func (t *target) saveChains(ctx context.Context, tool string, family uint8, table string) ([]byte, error) {
	if _, err := t.host.tools.path(tool); err != nil {
		t.note = err.Error()
		return nil, nil
	}
	conn, err := dialNetlink(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	request := make([]byte, nfgenmsg)
	request[0] = family
	type chain struct {
		table, name string
		base        bool
	}
	chains, err := listOf(conn, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETCHAIN, request, func(body []byte) (c chain, err error) {
		err = attributes(body, nfgenmsg, func(ad *netlink.AttributeDecoder) error {
			switch ad.Type() {
			case unix.NFTA_CHAIN_TABLE:
				c.table = ad.String()
			case unix.NFTA_CHAIN_NAME:
				c.name = ad.String()
			case unix.NFTA_CHAIN_HOOK:
				c.base = true
			}
			return nil
		})
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("ask for the chains of nftables: %w", err)
	}
	chains = slices.DeleteFunc(chains, func(c chain) bool {
		return c.table != table || c.base && c.name != strings.ToUpper(c.name) || !nameOfChain.MatchString(c.name)
	})
	if len(chains) > maxChains {
		return nil, nil
	}
	head, rules := bytes.NewBufferString("*"+table+"\n"), new(bytes.Buffer)
	for _, c := range chains {
		policy := "-"
		if c.base {
			policy = "ACCEPT"
		}
		text, err := t.host.tools.run(ctx, tool, "-t", table, "-S", c.name)
		if err != nil {
			if !toolFailed(ctx, err) {
				return nil, err
			}
			fmt.Fprintf(head, "# Chain `%s'%s\n", c.name, incompatible)
		}
		for line := range bytes.Lines(text) {
			if bytes.HasPrefix(line, []byte("-A ")) {
				rules.Write(line)
			} else if p, ok := bytes.CutPrefix(line, []byte("-P "+c.name+" ")); ok {
				policy = string(bytes.TrimSpace(p))
			}
		}
		fmt.Fprintf(head, ":%s %s [0:0]\n", c.name, policy)
	}
	rules.WriteString("COMMIT\n")
	return append(head.Bytes(), rules.Bytes()...), nil
}

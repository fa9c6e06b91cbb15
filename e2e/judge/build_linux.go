package judge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// namePrefix begins the names of all namespaces that judges make; the process follows, so that judges do not meet.
const namePrefix = "plj"

const netnsDir = "/run/netns"

// built is a world that exists.
type built struct {
	world  *World
	prefix string
	ears   *ears
}

// netns is the real name of one of the world's namespaces: those that the simulator may see begin alike.
func (b *built) netns(name string) string {
	if ns := b.world.Namespace(name); ns != nil && ns.Hidden {
		return b.prefix + "-h-" + name
	}
	return b.prefix + "-c-" + name
}

// build makes a world. Whatever happens, remove has to be called.
func (w *World) build(ctx context.Context, prefix string) (*built, error) {
	b := &built{world: w, prefix: prefix, ears: newEars()}
	for i := range w.Namespaces {
		if err := lab.NewNetns(b.netns(w.Namespaces[i].Name)); err != nil {
			return b, err
		}
	}
	steps := []struct {
		tool Tool
		run  func(context.Context, string, []*Element) error
	}{
		{ToolEarly, b.sysctls},
		{ToolLink, b.batch("ip")},
		{ToolTun, b.tun},
		{"", b.quick},
		{ToolIP, b.batch("ip")},
		{"", b.settle},
		{ToolBridge, b.batch("bridge")},
		{ToolLate, b.batch("ip")},
		{ToolRule, b.batch("ip")},
		{"", b.settle},
		{ToolSysctl, b.sysctls},
		{ToolIPSet, b.ipsets},
		{ToolIPTables, b.iptables},
		{ToolNFT, b.nft},
		{ToolTC, b.batch("tc")},
		{ToolListen, b.listen},
	}
	for _, step := range steps {
		for i := range w.Namespaces {
			name := w.Namespaces[i].Name
			var mine []*Element
			for j := range w.Elements {
				if e := &w.Elements[j]; e.Namespace == name && e.Tool == step.tool {
					mine = append(mine, e)
				}
			}
			if len(mine) == 0 && step.tool != "" {
				continue
			}
			if err := step.run(ctx, name, mine); err != nil {
				return b, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return b, nil
}

// remove unmakes the world, or as much of it as there is.
func (b *built) remove() error {
	b.ears.close()
	var errs []error
	for i := range b.world.Namespaces {
		errs = append(errs, lab.RemoveNetns(b.netns(b.world.Namespaces[i].Name)))
	}
	return errors.Join(errs...)
}

// removeStale removes what judges have left that were killed.
func removeStale() error {
	entries, err := os.ReadDir(netnsDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	name := regexp.MustCompile(`^` + namePrefix + `(\d+)\.`)
	var errs []error
	for _, e := range entries {
		if m := name.FindStringSubmatch(e.Name()); m != nil {
			if _, err := os.Stat("/proc/" + m[1]); errors.Is(err, os.ErrNotExist) {
				errs = append(errs, lab.RemoveNetns(e.Name()))
			}
		}
	}
	return errors.Join(errs...)
}

// within runs fn inside one of the world's namespaces.
func (b *built) within(name string, fn func() error) error { return lab.InNetns(b.netns(name), fn) }

// text is an element's text for the tool: with the real names of namespaces.
func (b *built) text(e *Element) string {
	if !strings.Contains(e.Text, "@") {
		return e.Text
	}
	words := strings.Split(e.Text, " ")
	for i, w := range words {
		if name, ok := strings.CutPrefix(w, "@"); ok {
			words[i] = b.netns(name)
		}
	}
	return strings.Join(words, " ")
}

// sysctlPath is the file of a setting; devices of these worlds have no dot in their names.
func sysctlPath(key string) string { return "/proc/sys/" + strings.ReplaceAll(key, ".", "/") }

func (b *built) sysctls(_ context.Context, ns string, elements []*Element) error {
	return b.within(ns, func() error {
		for _, e := range elements {
			key, value, _ := strings.Cut(e.Text, "=")
			err := os.WriteFile(sysctlPath(key), []byte(value), 0)
			if errors.Is(err, os.ErrNotExist) && e.Tool == ToolEarly {
				continue // older kernels have some for the first namespace only
			}
			if err != nil {
				return fmt.Errorf("%s: sysctl %s: %w", e.ID, e.Text, err)
			}
		}
		return nil
	})
}

// quick makes devices give up on neighbours that do not answer, answer for others at once, and keep neighbours that did:
// what br_netfilter translates passes a hairpin if its neighbour has to be asked again (br_nf_pre_routing_finish_bridge).
func (b *built) quick(_ context.Context, ns string, _ []*Element) error {
	return b.within(ns, func() error {
		if err := segmentInSoftware(); err != nil {
			return err
		}
		for _, family := range []string{"ipv4", "ipv6"} {
			dirs, err := filepath.Glob("/proc/sys/net/" + family + "/neigh/*")
			if err != nil {
				return err
			}
			for _, dir := range dirs {
				if filepath.Base(dir) == "default" {
					continue
				}
				for _, s := range [][2]string{{"retrans_time_ms", "200"}, {"base_reachable_time_ms", "600000"}, {"proxy_delay", "0"}, {"locktime", "0"}} {
					if err := os.WriteFile(filepath.Join(dir, s[0]), []byte(s[1]), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
						return fmt.Errorf("%s: %w", dir, err)
					}
				}
			}
		}
		return nil
	})
}

var lineOfError = regexp.MustCompile(`(?:Command failed -:|line |-:)(\d+)`)

// run gives a tool its input. The error names the line that it did not like.
func (b *built) run(ctx context.Context, ns, input string, argv ...string) error {
	return b.within(ns, func() error {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
		cmd.Stdin = strings.NewReader(input)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		if err == nil {
			return nil
		}
		text := strings.TrimSpace(out.String())
		if m := lineOfError.FindStringSubmatch(text); m != nil {
			at, _ := strconv.Atoi(m[1])
			if lines := strings.Split(input, "\n"); at > 0 && at <= len(lines) {
				text += ": " + lines[at-1]
			}
		}
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, text)
	})
}

func (b *built) batch(tool string) func(context.Context, string, []*Element) error {
	return func(ctx context.Context, ns string, elements []*Element) error {
		// One batch has one family, that of the command line. What sets an interface down comes last: next hops go with it.
		var plain, ipv6, down strings.Builder
		for _, e := range elements {
			text := strings.TrimPrefix(b.text(e), "-4 ")
			rest, is6 := strings.CutPrefix(text, "-6 ")
			switch {
			case is6:
				ipv6.WriteString(rest + "\n")
			case strings.HasPrefix(text, "link set ") && strings.HasSuffix(text, " down"):
				down.WriteString(text + "\n")
			default:
				plain.WriteString(text + "\n")
			}
		}
		for _, batch := range []struct {
			lines   string
			command []string
		}{{plain.String(), []string{tool, "-batch", "-"}}, {ipv6.String(), []string{tool, "-6", "-batch", "-"}}, {down.String(), []string{tool, "-batch", "-"}}} {
			if batch.lines == "" {
				continue
			}
			if err := b.run(ctx, ns, batch.lines, batch.command...); err != nil {
				return err
			}
		}
		return nil
	}
}

func (b *built) ipsets(ctx context.Context, ns string, elements []*Element) error {
	var input strings.Builder
	for _, e := range elements {
		input.WriteString(e.Text + "\n")
	}
	return b.run(ctx, ns, input.String(), "ipset", "restore")
}

func (b *built) nft(ctx context.Context, ns string, elements []*Element) error {
	var input strings.Builder
	for _, e := range elements {
		input.WriteString(e.Text + "\n")
	}
	return b.run(ctx, ns, input.String(), "nft", "-f", "-")
}

// iptables restores the rules of each family and backend.
func (b *built) iptables(ctx context.Context, ns string, elements []*Element) error {
	for _, backend := range []netstack.Backend{netstack.BackendNFT, netstack.BackendLegacy} {
		for _, family := range families {
			input := restoreText(elements, family, backend)
			if input == "" {
				continue
			}
			tool := "iptables-"
			if family == netstack.IPv6 {
				tool = "ip6tables-"
			}
			if err := b.run(ctx, ns, input, tool+string(backend)+"-restore"); err != nil {
				return err
			}
		}
	}
	return nil
}

// restoreText puts lines together for iptables-restore: tables in the order of their first line, chains before rules. Each
// rule bears its id as a comment.
func restoreText(elements []*Element, family netstack.Family, backend netstack.Backend) string {
	type table struct{ chains, rules strings.Builder }
	tables := map[string]*table{}
	var order []string
	var text strings.Builder
	for _, e := range elements {
		if e.Family != family || e.Backend != backend {
			continue
		}
		if e.Table == "" { // whole, as iptables-save prints it
			text.WriteString(e.Text)
			continue
		}
		t := tables[e.Table]
		if t == nil {
			t = &table{}
			tables[e.Table] = t
			order = append(order, e.Table)
		}
		if strings.HasPrefix(e.Text, ":") {
			t.chains.WriteString(e.Text + "\n")
			continue
		}
		t.rules.WriteString(withComment(e.Text, e.ID) + "\n")
	}
	for _, name := range order {
		fmt.Fprintf(&text, "*%s\n%s%sCOMMIT\n", name, tables[name].chains.String(), tables[name].rules.String())
	}
	return text.String()
}

// withComment puts the comment before the target.
func withComment(rule, id string) string {
	comment := " -m comment --comment " + id
	for _, target := range []string{" -j ", " -g "} {
		if at := strings.LastIndex(rule, target); at >= 0 {
			return rule[:at] + comment + rule[at:]
		}
	}
	return rule + comment
}

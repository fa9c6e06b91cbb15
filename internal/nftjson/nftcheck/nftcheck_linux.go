// Package nftcheck holds, in tests, what nftjson reads over netlink against
// what the tool prints.
package nftcheck

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/internal/nftjson"
)

// Namespace gives the test's goroutine a thread in a network namespace of its
// own, which ends with it, and skips the test where that is not allowed.
func Namespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("network namespaces need root: %v", err)
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed")
	}
	Run(t, "", "ip", "link", "set", "lo", "up")
}

// Run runs a command in the namespace.
func Run(t testing.TB, input, name string, args ...string) []byte {
	t.Helper()
	out, err := run(input, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return out
}

// Try runs a command that may fail.
func Try(input, name string, args ...string) error {
	_, err := run(input, name, args...)
	return err
}

func run(input, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, errors.Join(err, errors.New(strings.TrimSpace(stderr.String())))
	}
	return stdout.Bytes(), nil
}

// Load replaces the rule set of the namespace.
func Load(rules string) error {
	if _, err := run("", "nft", "flush", "ruleset"); err != nil {
		return err
	}
	_, err := run(rules, "nft", "-f", "-")
	return err
}

// Tool is what the tool prints, with what its releases leave out.
func Tool(t testing.TB) []byte {
	t.Helper()
	out := Run(t, "", "nft", "-j", "list", "ruleset")
	conn := dial(t)
	defer conn.Close()
	tables, chains, err := nftjson.Read(conn)
	if err != nil {
		t.Fatal(err)
	}
	if out, err = nftjson.Complete(out, tables, chains); err != nil {
		t.Fatal(err)
	}
	return out
}

func dial(t testing.TB) *netlink.Conn {
	t.Helper()
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// Live is what nftjson reads.
func Live(t testing.TB) ([]byte, error) {
	t.Helper()
	rules, err := nftjson.Live(func(index int) string {
		if i, err := net.InterfaceByIndex(index); err == nil {
			return i.Name
		}
		return ""
	})
	if err != nil {
		return nil, err
	}
	return rules.Data, nil
}

// Difference is how what nftjson reads differs from what the tool prints,
// object by object; "" if it does not. A rule set that is not understood is the
// error.
func Difference(t testing.TB) (string, error) {
	t.Helper()
	live, err := Live(t)
	if err != nil {
		return "", err
	}
	return Compare(t, Tool(t), live), nil
}

// Compare is how two rule sets differ.
func Compare(t testing.TB, want, got []byte) string {
	t.Helper()
	a, b := objects(t, want), objects(t, got)
	var out strings.Builder
	for i := range max(len(a), len(b)) {
		var x, y any
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if diff := cmp.Diff(x, y); diff != "" && !cmp.Equal(x, joined(y)) && !cmp.Equal(x, joined(shortened(y))) {
			wantText, _ := json.Marshal(x)
			gotText, _ := json.Marshal(y)
			out.WriteString("tool " + string(wantText) + "\nlive " + string(gotText) + "\n")
		}
	}
	return out.String()
}

// joined is a rule as nft prints it where two matches follow each other of which
// one is "less" and the other "more": as one range, whatever they look at.
func joined(object any) any {
	return rewritten(object, func(list []any) []any {
		var out []any
		for _, statement := range list {
			match, op := matchOf(statement)
			if len(out) > 0 {
				last, lastOp := matchOf(out[len(out)-1])
				whole := map[[2]any]string{{"<", ">"}: "!=", {">=", "<="}: "=="}[[2]any{lastOp, op}]
				if whole != "" {
					ends := map[string]any{"range": []any{last["right"], match["right"]}}
					out[len(out)-1] = map[string]any{"match": map[string]any{"op": whole, "left": match["left"], "right": ends}}
					continue
				}
			}
			out = append(out, statement)
		}
		return out
	})
}

// shortened is a rule as nft prints it where matches of the protocol, or of the
// type of the device, come before others of which it takes them to be implied.
func shortened(object any) any {
	return rewritten(object, func(list []any) []any {
		return slices.DeleteFunc(slices.Clone(list), func(statement any) bool {
			match, op := matchOf(statement)
			left, _ := match["left"].(map[string]any)
			meta, _ := left["meta"].(map[string]any)
			return op == "==" && (meta["key"] == "iiftype" || meta["key"] == "protocol")
		})
	})
}

func matchOf(statement any) (match map[string]any, op any) {
	outer, _ := statement.(map[string]any)
	match, _ = outer["match"].(map[string]any)
	return match, match["op"]
}

// rewritten is a rule with other expressions. Other objects stay as they are.
func rewritten(object any, with func([]any) []any) any {
	outer, _ := object.(map[string]any)
	rule, _ := outer["rule"].(map[string]any)
	before, _ := rule["expr"].([]any)
	list := with(before)
	if len(list) == len(before) {
		return object
	}
	rule = maps.Clone(rule)
	rule["expr"] = list
	return map[string]any{"rule": rule}
}

func objects(t testing.TB, data []byte) []any {
	t.Helper()
	var document struct {
		List []any `json:"nftables"`
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&document); err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	for _, object := range document.List {
		timeless(object)
	}
	return document.List
}

// timeless removes what passes.
func timeless(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "expires")
		for _, e := range v {
			timeless(e)
		}
	case []any:
		for _, e := range v {
			timeless(e)
		}
	}
}

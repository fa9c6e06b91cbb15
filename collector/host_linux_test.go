package collector

import (
	"os"
	"path/filepath"
	"testing"
)

// A kernel with modules is asked only for what is loaded or built in: asking
// for more would load it.
func TestHas(t *testing.T) {
	proc := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(proc, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("kallsyms", "0000000000000000 t tcp_diag_dump\n0000000000000000 t udp_diag_dump\t[udp_diag]\n0000000000000000 T other\n")
	host := newHostState(proc)
	if !host.has("plumbline_no_such_module", "nf_tables_newtable") {
		t.Error("a kernel without loadable modules was not asked")
	}
	write("modules", "")
	for _, test := range []struct {
		what, module, symbol string
		want                 bool
	}{
		{"built in", "plumbline_no_such_module", "tcp_diag_dump", true},
		{"a symbol of a module that may be gone by now", "plumbline_no_such_module", "udp_diag_dump", false},
		{"nowhere", "plumbline_no_such_module", "nf_tables_newtable", false},
		{"in /sys/module", loadedModule(t), "nf_tables_newtable", true},
	} {
		if got := host.has(test.module, test.symbol); got != test.want {
			t.Errorf("%s: got %v, want %v", test.what, got, test.want)
		}
	}
}

func loadedModule(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir("/sys/module")
	if err != nil || len(entries) == 0 {
		t.Fatalf("/sys/module: %d entries, %v", len(entries), err)
	}
	return entries[0].Name()
}

// Symbols are renamed now and then: a kernel that has everything built in must
// have all of those that stand for a module.
func TestSymbolsAreThoseOfThisKernel(t *testing.T) {
	if _, err := os.Stat("/proc/modules"); err == nil {
		t.Skip("this kernel loads modules: what is built in is not known")
	}
	found := builtinSymbols("/proc")
	for _, symbol := range symbols {
		if !found[symbol] {
			t.Errorf("%s is not in /proc/kallsyms", symbol)
		}
	}
}

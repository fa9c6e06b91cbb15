package collector

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// hostState is what runs share: what the kernel has, where the tools are, and
// the rule sets that need not be read again.
type hostState struct {
	proc    string
	sources []source

	builtin func() map[string]bool
	tools   *tools

	mu    sync.Mutex
	rules map[uint64]*ruleCache // by namespace cookie
	usage usage                 // as it was told last
}

func newHostState(proc string) hostState {
	return hostState{
		proc:    proc,
		sources: sources(),
		builtin: sync.OnceValue(func() map[string]bool { return builtinSymbols(proc) }),
		tools:   newTools(),
		rules:   make(map[uint64]*ruleCache),
	}
}

// symbols are functions whose presence in the kernel proves that a part of it
// is built in. Each is looked for only when the module of that name is not
// loaded.
var symbols = []string{
	"nf_tables_newtable", "ip_set_utest", "inet_diag_register", "tcp_diag_dump", "udp_diag_dump", "xfrm_dump_policy", "ctnetlink_dump_table",
}

// has says whether the kernel has a module's code loaded or built in, so that
// asking for it loads nothing: opening some netlink sockets and sending some
// requests makes the kernel load modules, which register hooks. A kernel
// without loadable modules may be asked for anything.
func (h *hostState) has(module, symbol string) bool {
	if _, err := os.Stat(filepath.Join(h.proc, "modules")); err != nil {
		return true
	}
	if _, err := os.Stat("/sys/module/" + module); err == nil {
		return true
	}
	return h.builtin()[symbol]
}

// builtinSymbols finds which of symbols are in the kernel itself. Lines of
// kallsyms for modules end in the module's name.
func builtinSymbols(proc string) map[string]bool {
	found := make(map[string]bool)
	file, err := os.Open(filepath.Join(proc, "kallsyms"))
	if err != nil {
		return found
	}
	defer file.Close()
	wanted := make(map[string]bool)
	for _, symbol := range symbols {
		wanted[symbol] = true
	}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Bytes()
		if bytes.IndexByte(line, '[') >= 0 {
			continue
		}
		if i := bytes.LastIndexByte(line, ' '); i >= 0 && wanted[strings.TrimSpace(string(line[i+1:]))] {
			found[string(line[i+1:])] = true
		}
	}
	return found
}

// cacheOf returns the rule sets known of a namespace. One without a cookie has
// none that outlast the run.
func (h *hostState) cacheOf(cookie uint64) *ruleCache {
	if cookie == 0 {
		return new(ruleCache)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	cache := h.rules[cookie]
	if cache == nil {
		cache = new(ruleCache)
		h.rules[cookie] = cache
	}
	cache.used = true
	return cache
}

// forgetUnused drops the rule sets of namespaces that the run did not see.
func (h *hostState) forgetUnused() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for cookie, cache := range h.rules {
		if !cache.used {
			delete(h.rules, cookie)
		}
		cache.used = false
	}
}

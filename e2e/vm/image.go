package main

import (
	_ "embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

//go:embed init.sh
var initScript []byte

// tools are the commands that tests run, by the names they use.
var tools = strings.Fields(`
	ip bridge tc ss sysctl ipset ipvsadm conntrack nft curl busybox getent
	iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore
	iptables-nft iptables-nft-save iptables-nft-restore ip6tables-nft ip6tables-nft-save ip6tables-nft-restore
	iptables-legacy iptables-legacy-save iptables-legacy-restore ip6tables-legacy ip6tables-legacy-save ip6tables-legacy-restore
	ebtables ebtables-nft arptables arptables-nft
	arptables-legacy ebtables-legacy`)

// applets are those of busybox that tests and the init script use; all others
// are in its reach by `busybox NAME`.
var applets = strings.Fields("sh cat mount umount mkdir insmod poweroff true false sleep ls ps kill head tail grep dmesg env chroot nsenter unshare id uname cut touch rm")

// image writes the machine's file system.
func image(a *archive, kernel kernelFiles, tests []test) error {
	for _, name := range strings.Fields("/dev /proc /sys /run/netns /tmp /root /etc /var/run /var/lib /usr/share") {
		a.dir(name)
	}
	a.file("/init", initScript, true)
	for _, name := range []string{"/etc/protocols", "/etc/services", "/etc/passwd", "/etc/group"} {
		if err := a.copy(name); err != nil {
			return err
		}
	}
	// What iproute2 and iptables find by themselves.
	for _, dir := range []string{"/etc/iproute2", "/usr/lib/x86_64-linux-gnu/xtables", "/usr/lib/tc"} {
		if err := a.tree(dir); err != nil {
			return err
		}
	}
	for _, name := range tools {
		if err := a.tool(name); err != nil {
			return err
		}
	}
	for _, name := range applets {
		a.link("/bin/"+name, "/usr/bin/busybox")
	}
	var load strings.Builder
	files, err := modules(kernel.modules)
	if err != nil {
		return err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name := path.Base(file)
		a.file("/modules/"+name, data, false)
		fmt.Fprintf(&load, "/modules/%s %s\n", name, parameters[moduleName(strings.TrimSuffix(name, ".ko"))])
	}
	a.file("/modules/load", []byte(load.String()), false)
	for _, t := range tests {
		if err := t.install(a); err != nil {
			return err
		}
	}
	return a.close()
}

// tool copies a command with the libraries that it needs, and gives it the
// name that it has on this host: some look at the name to know what to do.
func (a *archive) tool(name string) error {
	found, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(found)
	if err != nil {
		return err
	}
	if err := a.copyWithLibraries(real); err != nil {
		return err
	}
	if real != "/usr/bin/"+name {
		a.link("/usr/bin/"+name, real)
	}
	return nil
}

func (a *archive) copyWithLibraries(name string) error {
	if err := a.copy(name); err != nil {
		return err
	}
	out, err := exec.Command("ldd", name).Output()
	if err != nil { // a static one
		return nil
	}
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "/") {
			if err := a.copy(word); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *archive) copy(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	a.file(name, data, info.Mode()&0o111 != 0)
	return nil
}

// tree copies what is below a directory, if it exists; shared objects come
// with what they need.
func (a *archive) tree(dir string) error {
	return filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err) && name == dir:
			return nil
		case err != nil || entry.IsDir():
			return err
		case strings.HasSuffix(name, ".so"):
			return a.copyWithLibraries(name)
		}
		return a.copy(name)
	})
}

package charts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// inImage collects a network namespace of its own from within the image's root ($1):
// mounted without being writable, with /proc, /sys and /dev/null as a container has
// them, and with the capabilities $2 only.
const inImage = `set -e
ip link set lo up
iptables-legacy -A INPUT -p tcp --dport 81 -m conntrack --ctstate NEW -j ACCEPT
iptables-nft -A INPUT -p udp --dport 82 -m comment --comment plumbline -j DROP
iptables-nft -t mangle -N chain
iptables-nft -t mangle -A chain -p tcp --dport 85 -j DROP
iptables-nft -t mangle -A INPUT -j chain
nft add rule ip mangle INPUT ct state invalid drop
ip6tables-legacy -A INPUT -p tcp --dport 83 -j DROP
ip6tables-nft -A INPUT -p tcp --dport 84 -j DROP
nft add table ip plumbline_image
ipset create plumbline-image hash:ip
mount --bind "$1" /mnt
mount -t proc proc /mnt/proc
mount -t sysfs sysfs /mnt/sys
mount -t tmpfs tmpfs /mnt/dev
mknod -m 666 /mnt/dev/null c 1 3
mount -t tmpfs tmpfs /mnt/tmp
mount -o remount,bind,ro /mnt
setpriv --bounding-set="$2" --inh-caps=-all chroot /mnt /usr/bin/plumbline collect --output /tmp/out
cat /mnt/tmp/out/netns/*/*`

func TestTheImageHasWhatTheCollectorRuns(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	dir := t.TempDir()
	binary, root := filepath.Join(dir, "plumbline"), filepath.Join(dir, "root")
	for _, argv := range [][]string{
		{"go", "build", "-o", binary, "../cmd/plumbline"},
		{"../hack/image-root.sh", root, binary},
	} {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
		if _, err := run(cmd); err != nil {
			t.Fatal(err)
		}
	}
	capabilities := "-all,+sys_chroot" // chroot's own
	for _, c := range render(t).agent.Spec.Template.Spec.Containers[0].SecurityContext.Capabilities.Add {
		capabilities += ",+" + strings.ToLower(string(c))
	}
	// A network namespace of its own has none of the host's rules.
	cmd := exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private",
		"bash", "-c", inImage, "bash", root, capabilities)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"--dport 81 -m conntrack --ctstate NEW -j ACCEPT", "--dport 82 -m comment --comment plumbline -j DROP", "--dport 83 -j DROP", "--dport 84 -j DROP", "-A chain -p tcp -m tcp --dport 85 -j DROP",
		"plumbline_image", "create plumbline-image hash:ip",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("what was collected lacks %q", want)
		}
	}
	if strings.Contains(string(out), "not read:") {
		t.Errorf("something was not read:\n%.2000s", out)
	}
}

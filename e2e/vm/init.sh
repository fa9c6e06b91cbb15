#!/usr/bin/busybox sh
# The first process of the machine. It loads the modules, runs the tests one
# after the other, and says on the second serial port what came of each.
export PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/root TMPDIR=/tmp
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mkdir -p /run/netns /run/lock
exec </dev/null >/dev/ttyS1 2>&1
busybox stty -F /dev/ttyS1 raw 2>/dev/null

# Devices that tunnels make by themselves belong in no test's namespace.
echo 1 >/proc/sys/net/core/fb_tunnels_only_for_init_net
while read -r module parameters; do
	insmod "$module" $parameters || echo "@@ no-module $module"
done </modules/load
ip link set lo up

echo "@@ up $(uname -r) after $(cut -d' ' -f1 /proc/uptime) s"
for test in /tests/*; do
	echo "@@ begin ${test#/tests/}"
	sh "$test/run"
	echo "@@ end ${test#/tests/} $?"
done
if [ -d /tmp/keep ]; then
	echo "@@ begin keep"
	busybox tar -C /tmp/keep -cf - . | busybox gzip | busybox base64
	echo "@@ end keep 0"
fi
echo "@@ done"
poweroff -f

package main

import "strings"

// told is the machine with a word to init.
func (m machine) told(word string) machine {
	args := make([]string, len(m.args))
	for i, a := range m.args {
		if i > 0 && m.args[i-1] == "-append" {
			a += " " + word
		}
		args[i] = a
	}
	m.args = args
	return m
}

// What init may be told: to mount control groups of version 1 instead of 2, and to run
// the tests of these alone, in kernels that take no eBPF of ours.
const (
	olderGroups = "vedette.groups=1"
	groupsAlone = "vedette.groups=alone"
)

// initScript is what the kernel starts.
func initScript(o options) string {
	run := strings.ReplaceAll(o.run, "'", "")
	var all []string
	for p := range strings.SplitSeq(o.packages, ",") {
		all = append(all, p+":/vedette/"+folder(p))
	}
	return `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mkdir -p /dev/shm /sys/fs/cgroup
ln -sf /proc/self/fd /dev/fd
mount -t tracefs trace /sys/kernel/tracing 2>/dev/null || mount -t debugfs debug /sys/kernel/debug
for m in virtio-rng inet_diag tcp_diag; do
	[ ! -f /modules/$m.ko ] || insmod /modules/$m.ko
done
ip link set lo up
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null; echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null
ip addr add ::1/128 dev lo 2>/dev/null
echo "KERNEL $(uname -r) $(uname -m)"

# tests <name> <folder>
tests() {
	cd "$2"
	echo "PACKAGE $1"
	run='` + run + `'
	case $2 in */` + groups + `) run=${run:-^TestReal} ;; esac # others ask nothing of the kernel
	./${2##*/}.test -test.v -test.run "$run"
	echo "EXIT $1 $?"
}

if grep -q ` + olderGroups + ` /proc/cmdline; then
	# As distributions with systemd mount them.
	mount -t tmpfs cgroup /sys/fs/cgroup
	for c in cpu,cpuacct memory blkio cpuset pids devices freezer net_cls,net_prio perf_event; do
		mkdir /sys/fs/cgroup/$c
		mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c 2>/dev/null || rmdir /sys/fs/cgroup/$c
	done
	ln -s cpu,cpuacct /sys/fs/cgroup/cpu
	ln -s cpu,cpuacct /sys/fs/cgroup/cpuacct
	mkdir /sys/fs/cgroup/systemd
	mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
	echo 1 >/sys/fs/cgroup/memory/memory.use_hierarchy 2>/dev/null
	tests ` + groups + `@v1 /vedette/` + groups + `
	mkdir /sys/fs/cgroup/unified
	if mount -t cgroup2 cgroup /sys/fs/cgroup/unified 2>/dev/null; then
		tests ` + groups + `@hybrid /vedette/` + groups + `
	fi
else
	mount -t cgroup2 cgroup /sys/fs/cgroup
	echo +memory >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null
	for p in ` + strings.Join(all, " ") + `; do
		case $p in ` + groups + `:*) ;; *) ! grep -q ` + groupsAlone + ` /proc/cmdline || continue ;; esac
		tests ${p%%:*} ${p#*:}
	done
fi
echo "END"
poweroff -f
`
}

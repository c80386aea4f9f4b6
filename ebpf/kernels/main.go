package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// options are the command line's.
type options struct {
	cache, only, packages, run string
	timeout                    time.Duration
	verbose                    bool
}

func main() {
	var o options
	flag.StringVar(&o.cache, "cache", ".cache/kernels", "where fetch.sh put the kernels")
	flag.StringVar(&o.only, "kernels", "", "regular expression of the kernels to boot, such as 5.10-amd64; empty: all")
	flag.StringVar(&o.packages, "packages", "feature,http1,tcp,identity,probe", "packages below ebpf to test")
	flag.StringVar(&o.run, "run", "", "regular expression of the tests to run")
	flag.DurationVar(&o.timeout, "timeout", 15*time.Minute, "the longest that one kernel may run")
	flag.BoolVar(&o.verbose, "v", false, "print what the tests print")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ok, err := matrix(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// matrix boots one kernel after another. It is true when no test failed.
func matrix(ctx context.Context, o options) (bool, error) {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return false, fmt.Errorf("read -kernels: %w", err)
	}
	images, err := filepath.Glob(filepath.Join(o.cache, "vmlinuz-*-*64"))
	if err != nil {
		return false, err
	}
	slices.SortFunc(images, byVersion)
	dir, err := os.MkdirTemp("", "kernels")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	ok, n := true, 0
	archives := make(map[string]string) // by architecture
	for _, image := range images {
		name := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
		if !only.MatchString(name) {
			continue
		}
		_, arch, _ := strings.Cut(name, "-")
		qemu, err := findQEMU(o.cache, arch)
		if err != nil {
			fmt.Printf("%s: skipped: %v\n", name, err)
			continue
		}
		if archives[arch] == "" {
			archives[arch], err = initramfs(ctx, o, arch, dir)
			if err != nil {
				return false, fmt.Errorf("make the initramfs for %s: %w", arch, err)
			}
		}
		n++
		began := time.Now()
		out, err := boot(ctx, o, qemu, image, archives[arch])
		if err != nil {
			return false, fmt.Errorf("boot %s: %w", name, err)
		}
		// QEMU's emulation now and then misleads a kernel that patches itself.
		for again := 0; again < 2 && bytes.Contains(out, []byte("Kernel panic")); again++ {
			fmt.Printf("%s: the kernel panicked; once more\n", name)
			if out, err = boot(ctx, o, qemu, image, archives[arch]); err != nil {
				return false, fmt.Errorf("boot %s: %w", name, err)
			}
		}
		good := report(os.Stdout, name, out, time.Since(began), o.verbose)
		ok = ok && good
	}
	if n == 0 {
		fmt.Printf("no kernel was booted: none of %s that matches %q can be; see ebpf/kernels/fetch.sh\n", o.cache, o.only)
	}
	return ok, nil
}

// byVersion sorts 5.4 before 5.10.
func byVersion(a, b string) int {
	version := func(s string) (major, minor int) {
		_, _ = fmt.Sscanf(strings.TrimPrefix(filepath.Base(s), "vmlinuz-"), "%d.%d", &major, &minor)
		return major, minor
	}
	am, an := version(a)
	bm, bn := version(b)
	if am != bm {
		return am - bm
	}
	if an != bn {
		return an - bn
	}
	return strings.Compare(a, b)
}

// command is how QEMU is started for an architecture.
type command struct {
	path string
	args []string
	env  []string
}

func findQEMU(cache, arch string) (command, error) {
	program, args := "qemu-system-x86_64", []string{"-machine", "q35", "-append", "console=ttyS0 quiet panic=-1"}
	if arch == "arm64" {
		program, args = "qemu-system-aarch64", []string{"-machine", "virt", "-append", "console=ttyAMA0 quiet panic=-1"}
	}
	if path, err := exec.LookPath(program); err == nil {
		return command{path: path, args: args}, nil
	}
	root := filepath.Join(cache, "qemu")
	path := filepath.Join(root, "usr/bin", program)
	if _, err := os.Stat(path); err != nil {
		return command{}, errors.New(program + " is missing")
	}
	libs, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
	more, _ := filepath.Glob(filepath.Join(root, "lib/*-linux-gnu"))
	args = append(args, "-L", filepath.Join(root, "usr/share/qemu"), "-L", filepath.Join(root, "usr/share/seabios"))
	return command{path: path, args: args, env: []string{"LD_LIBRARY_PATH=" + strings.Join(append(libs, more...), ":")}}, nil
}

// boot runs a kernel until it powers off, and gives what it printed.
func boot(ctx context.Context, o options, q command, image, archive string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	args := append([]string{
		"-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "2048", "-nodefaults", "-no-reboot",
		"-display", "none", "-serial", "stdio", "-kernel", image, "-initrd", archive,
	}, q.args...)
	cmd := exec.CommandContext(ctx, q.path, args...)
	cmd.Env = append(os.Environ(), q.env...)
	var out, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failed
	if o.verbose {
		cmd.Stdout = io.MultiWriter(&out, os.Stdout)
	}
	err := cmd.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return out.Bytes(), nil // the report tells what did not end
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, failed.Bytes())
	}
	return out.Bytes(), nil
}

// initramfs builds the tests for an architecture and packs them.
func initramfs(ctx context.Context, o options, arch, dir string) (string, error) {
	busybox, err := os.ReadFile(filepath.Join(o.cache, "busybox-"+arch))
	if err != nil {
		return "", err
	}
	a := newArchive()
	for _, d := range []string{"proc", "sys", "dev", "tmp", "run", "etc", "root", "bin", "tests", "var"} {
		a.dir(d)
	}
	a.file("bin/busybox", 0o755, busybox)
	a.file("etc/passwd", 0o644, []byte("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"))
	a.file("etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	a.file("init", 0o755, []byte(initScript(o)))
	for p := range strings.SplitSeq(o.packages, ",") {
		binary := filepath.Join(dir, arch+"-"+p+".test")
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", binary, "./ebpf/"+p)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build the tests of %s: %w: %s", p, err, out)
		}
		b, err := os.ReadFile(binary)
		if err != nil {
			return "", err
		}
		a.dir("tests/" + p)
		a.file("tests/"+p+"/"+filepath.Base(p)+".test", 0o755, b)
		if data := filepath.Join("ebpf", p, "testdata"); exists(data) {
			if err := a.tree(data, "tests/"+p+"/testdata"); err != nil {
				return "", err
			}
		}
	}
	if arch == runtime.GOARCH {
		for _, program := range []string{"nginx", "losetup"} {
			if err := addProgram(a, program); err != nil {
				fmt.Printf("%s: no %s in the initramfs: %v\n", arch, program, err)
			}
		}
	}
	path := filepath.Join(dir, "initramfs-"+arch)
	return path, os.WriteFile(path, a.bytes(), 0o600)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// initScript is what the kernel starts.
func initScript(o options) string {
	run := ""
	if o.run != "" {
		run = " -test.run '" + strings.ReplaceAll(o.run, "'", "") + "'"
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
mount -t cgroup2 cgroup /sys/fs/cgroup
echo +memory >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null
mount -t tracefs trace /sys/kernel/tracing 2>/dev/null || mount -t debugfs debug /sys/kernel/debug
ip link set lo up
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null; echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null
ip addr add ::1/128 dev lo 2>/dev/null
echo "KERNEL $(uname -r) $(uname -m)"
for p in ` + strings.ReplaceAll(o.packages, ",", " ") + `; do
	cd /tests/$p
	echo "PACKAGE $p"
	./${p##*/}.test -test.v -test.timeout 10m` + run + `
	echo "EXIT $p $?"
done
echo "END"
poweroff -f
`
}

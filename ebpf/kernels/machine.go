package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// machine is how kernels of an architecture are booted, and with what.
type machine struct {
	path    string // QEMU's; empty: it lacks something
	args    []string
	env     []string
	archive string // initramfs
	lacks   string
}

// prepare finds QEMU and builds the tests.
func prepare(ctx context.Context, w io.Writer, o options, arch, image, dir string) (machine, error) {
	m := findQEMU(o.cache, arch)
	if m.path == "" {
		return m, nil
	}
	lacks := "asked for"
	if o.accel != "tcg" {
		lacks = m.tryKVM(ctx, o.cache, arch, image, dir)
		if lacks != "" && o.accel == "kvm" {
			m.path, m.lacks = "", lacks
			return m, nil
		}
	}
	if lacks == "" {
		m.args = append(m.args, "-accel", "kvm", "-cpu", "host", "-smp", "2")
		fmt.Fprintf(w, "%s: KVM\n", arch)
	} else {
		cpu := "max"
		if arch == "amd64" {
			cpu += ",-cx16" // QEMU 7.2 spoils the flags with it where there is one processor: 6.12 panics
		}
		m.args = append(m.args, "-accel", "tcg,thread=single", "-cpu", cpu, "-smp", "1")
		fmt.Fprintf(w, "%s: the processor is emulated: %s\n", arch, lacks)
	}
	var err error
	if m.archive, err = initramfs(ctx, w, o, arch, dir); err != nil {
		return m, fmt.Errorf("make the initramfs for %s: %w", arch, err)
	}
	return m, nil
}

func findQEMU(cache, arch string) machine {
	program, board, console := "qemu-system-x86_64", "q35", "ttyS0"
	if arch == "arm64" {
		program, board, console = "qemu-system-aarch64", "virt", "ttyAMA0"
	}
	m := machine{args: []string{"-machine", board, "-append", "console=" + console + " quiet panic=-1 mitigations=off",
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio", "-m", "2048",
		"-device", "virtio-rng-pci"}} // else random numbers take minutes before 4.19
	if path, err := exec.LookPath(program); err == nil {
		m.path = path
		return m
	}
	root := filepath.Join(cache, "qemu")
	path := filepath.Join(root, "usr/bin", program)
	if !exists(path) {
		m.lacks = program + " is missing"
		return m
	}
	libs, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
	more, _ := filepath.Glob(filepath.Join(root, "lib/*-linux-gnu"))
	m.path = path
	m.args = append(m.args, "-L", filepath.Join(root, "usr/share/qemu"), "-L", filepath.Join(root, "usr/share/seabios"))
	m.env = []string{"LD_LIBRARY_PATH=" + strings.Join(append(libs, more...), ":")}
	return m
}

const (
	alive     = "ALIVE"
	kvmWithin = 20 * time.Second // seen on real KVM: a second
)

// tryKVM says why KVM does not do; empty: it runs a kernel to its end. Within some
// virtual machines it can be opened and runs none.
func (m machine) tryKVM(ctx context.Context, cache, arch, image, dir string) string {
	if arch != runtime.GOARCH {
		return "KVM is for this machine's own architecture"
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err.Error()
	}
	f.Close()
	a := newArchive()
	if err := skeleton(a, cache, arch); err != nil {
		return err.Error()
	}
	a.file("init", 0o755, []byte("#!/bin/busybox sh\n/bin/busybox mount -t devtmpfs dev /dev\n/bin/busybox echo "+alive+"\n/bin/busybox poweroff -f\n"))
	archive := filepath.Join(dir, "alive")
	if err := os.WriteFile(archive, a.bytes(), 0o600); err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, kvmWithin)
	defer cancel()
	m.args = append(m.args[:len(m.args):len(m.args)], "-accel", "kvm", "-cpu", "host")
	var out bytes.Buffer
	err = m.boot(ctx, image, archive, kvmWithin, &out)
	switch {
	case bytes.Contains(out.Bytes(), []byte(alive)):
		return ""
	case err != nil:
		return "KVM does not run a kernel here: " + err.Error()
	}
	return "KVM does not run a kernel here"
}

var errSilent = errors.New("nothing was printed for too long")

// boot runs a kernel until it powers off, or is silent for too long; what it prints
// goes to out.
func (m machine) boot(ctx context.Context, image, archive string, silence time.Duration, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer patience.Stop()
	cmd := exec.CommandContext(ctx, m.path, append(m.args[:len(m.args):len(m.args)], "-kernel", image, "-initrd", archive)...)
	cmd.Env = append(os.Environ(), m.env...)
	var failed bytes.Buffer
	cmd.Stderr = &failed
	cmd.Stdout = writeFunc(func(b []byte) (int, error) {
		patience.Reset(silence)
		return out.Write(b)
	})
	err := cmd.Run()
	if context.Cause(ctx) == errSilent {
		return nil // the report tells what did not end
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		line, _, _ := strings.Cut(failed.String(), "\n")
		return fmt.Errorf("%w: %s", err, line)
	}
	return nil
}

type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(b []byte) (int, error) { return f(b) }

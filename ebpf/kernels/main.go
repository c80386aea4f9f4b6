package main

import (
	"context"
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

// allPackages are those below ebpf whose tests load programs, or read what programs
// tell of, and the one that reads control groups.
const allPackages = "probe,feature,identity,http1,stream,tls,tcp,dns,process,block,runq,profile,span," + groups

// groups is the package whose tests run under every arrangement of control groups:
// version 2 alone, as all others', and after another start version 1 alone and version
// 1 beside 2.
const groups = "collector/container"

// folder is where a package is, of those that -packages names.
func folder(pkg string) string {
	if pkg == groups {
		return pkg
	}
	return "ebpf/" + pkg
}

// options are the command line's.
type options struct {
	cache, only, packages, run, accel string
	silence                           time.Duration
	verbose                           bool
}

func main() {
	var o options
	flag.StringVar(&o.cache, "cache", ".cache/kernels", "where fetch.sh put the kernels")
	flag.StringVar(&o.only, "kernels", "", "regular expression of the kernels to boot, such as 5.10-amd64; empty: all")
	flag.StringVar(&o.packages, "packages", allPackages, "packages below ebpf to test, and "+groups)
	flag.StringVar(&o.run, "run", "", "regular expression of the tests to run")
	flag.StringVar(&o.accel, "accel", "", "kvm or tcg (emulation); empty: kvm where it runs a kernel")
	flag.DurationVar(&o.silence, "silence", 10*time.Minute, "the longest that a kernel may print nothing")
	flag.BoolVar(&o.verbose, "v", false, "print what the tests print")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ok, err := matrix(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// matrix boots one kernel after another. It is true when no test failed.
func matrix(ctx context.Context, o options, w io.Writer) (bool, error) {
	images, err := findImages(o)
	if err != nil {
		return false, err
	}
	if len(images) == 0 {
		fmt.Fprintf(w, "no kernel was booted: none of %s matches %q; see ebpf/kernels/fetch.sh\n", o.cache, o.only)
		return true, nil
	}
	dir, err := os.MkdirTemp("", "kernels")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	began := time.Now()
	var all []*results
	packages := strings.Split(o.packages, ",")
	var rows []string // of the table, beside the packages
	if slices.Contains(packages, groups) {
		rows = []string{groups + "@v1", groups + "@hybrid"}
	}
	machines := make(map[string]machine) // by architecture
	for i, image := range images {
		name := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
		_, arch, _ := strings.Cut(name, "-")
		m, ok := machines[arch]
		if !ok {
			if m, err = prepare(ctx, w, o, arch, image, dir); err != nil {
				return false, err
			}
			machines[arch] = m
		}
		if m.path == "" {
			fmt.Fprintf(w, "%s: skipped: %s\n", name, m.lacks)
			continue
		}
		fmt.Fprintf(w, "%s: kernel %d of %d\n", name, i+1, len(images))
		archive, err := withModules(m.archive, filepath.Join(o.cache, "modules-"+name), filepath.Join(dir, "initramfs"))
		if err != nil {
			return false, fmt.Errorf("pack the modules of %s: %w", name, err)
		}
		started := m
		if byVersion(filepath.Base(image), "vmlinuz-4.18") < 0 {
			started = m.told(groupsAlone)
		}
		r, err := test(ctx, w, o, started, name, image, archive)
		if err != nil {
			return false, fmt.Errorf("boot %s: %w", name, err)
		}
		all = append(all, r)
		if slices.Contains(packages, groups) {
			if r, err = test(ctx, w, o, m.told(olderGroups), name+" v1", image, archive); err != nil {
				return false, fmt.Errorf("boot %s with control groups of version 1: %w", name, err)
			}
			all = append(all, r)
		}
	}
	table(w, append(packages, rows...), all)
	fmt.Fprintf(w, "%d starts in %s\n", len(all), time.Since(began).Round(time.Second))
	return !slices.ContainsFunc(all, func(r *results) bool { return r.failed }), nil
}

// test runs the tests in one kernel.
func test(ctx context.Context, w io.Writer, o options, m machine, name, image, archive string) (*results, error) {
	for again := 0; ; again++ {
		r := newResults(w, name, o)
		if err := m.boot(ctx, image, archive, o.silence, r); err != nil {
			return nil, err
		}
		// Emulation now and then misleads a kernel that patches itself.
		if !r.panicked || again == 2 {
			r.end()
			return r, nil
		}
		fmt.Fprintf(w, "%s: the kernel panicked; once more\n", name)
	}
}

// findImages gives the kernels to boot, older ones first.
func findImages(o options) ([]string, error) {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return nil, fmt.Errorf("read -kernels: %w", err)
	}
	images, err := filepath.Glob(filepath.Join(o.cache, "vmlinuz-*-*64"))
	if err != nil {
		return nil, err
	}
	slices.SortFunc(images, byVersion)
	return slices.DeleteFunc(images, func(image string) bool {
		return !only.MatchString(strings.TrimPrefix(filepath.Base(image), "vmlinuz-"))
	}), nil
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

// initramfs builds the tests for an architecture and packs them.
func initramfs(ctx context.Context, w io.Writer, o options, arch, dir string) (string, error) {
	a := newArchive()
	if err := skeleton(a, o.cache, arch); err != nil {
		return "", err
	}
	a.file("init", 0o755, []byte(initScript(o)))
	a.file("vedette/go.mod", 0o644, nil) // tests look for programs beside it
	packages := strings.Split(o.packages, ",")
	into := filepath.Join(dir, arch)
	args := []string{"test", "-c", "-trimpath", "-ldflags=-s -w", "-o", into + "/"}
	for _, p := range packages {
		args = append(args, "./"+folder(p))
	}
	if err := os.Mkdir(into, 0o700); err != nil {
		return "", err
	}
	fmt.Fprintf(w, "building the tests for %s\n", arch)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the tests: %w: %s", err, out)
	}
	for _, p := range packages {
		b, err := os.ReadFile(filepath.Join(into, filepath.Base(p)+".test"))
		if err != nil {
			return "", err
		}
		a.file("vedette/"+folder(p)+"/"+filepath.Base(p)+".test", 0o755, b)
		if data := filepath.Join(folder(p), "testdata"); exists(data) {
			if err := a.tree(data, "vedette/"+folder(p)+"/testdata"); err != nil {
				return "", err
			}
		}
	}
	if arch == runtime.GOARCH {
		for _, program := range []string{"nginx", "losetup", "true", "false", "getent"} {
			if err := addProgram(a, program); err != nil {
				fmt.Fprintf(w, "%s: no %s in the initramfs: %v\n", arch, program, err)
			}
		}
	}
	path := filepath.Join(dir, "tests-"+arch)
	return path, os.WriteFile(path, a.bytes(), 0o600)
}

// skeleton is what every system needs.
func skeleton(a *archive, cache, arch string) error {
	busybox, err := os.ReadFile(filepath.Join(cache, "busybox-"+arch))
	if err != nil {
		return err
	}
	for _, d := range []string{"proc", "sys", "dev", "tmp", "run", "etc", "root", "bin", "var", "modules", "vedette/ebpf"} {
		a.dir(d)
	}
	a.file("bin/busybox", 0o755, busybox)
	a.file("etc/passwd", 0o644, []byte("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"))
	a.file("etc/resolv.conf", 0o644, []byte("nameserver 127.0.0.1\n")) // without, Go asks two
	a.file("etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// withModules appends a kernel's modules to an archive: kernels unpack several, one
// after another.
func withModules(archive, modules, path string) (string, error) {
	if !exists(modules) {
		return archive, nil
	}
	b, err := os.ReadFile(archive)
	if err != nil {
		return "", err
	}
	a := newArchive()
	if err := a.tree(modules, "modules"); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, append(b, a.bytes()...), 0o600)
}

package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Build makes sure that the executable of a peer exists below cache, building it
// from its Go module if need be, and returns its spec. Vedette is built from
// the working tree at root every time.
func Build(ctx context.Context, name, root, cache string) (Spec, error) {
	switch name {
	case Vedette:
		return BuildVedette(ctx, root, filepath.Join(root, "bin", "vedette"))
	case VictoriaMetrics:
		return buildPeer(ctx, cache, module{
			name: name, version: VictoriaMetricsVersion,
			path: "github.com/VictoriaMetrics/VictoriaMetrics", main: "app/victoria-metrics",
			goMod: "module bench.local/peer\n\ngo 1.26.5\n",
		})
	case Prometheus:
		goMod, goSum, err := ownModules(root)
		if err != nil {
			return Spec{}, err
		}
		return buildPeer(ctx, cache, module{
			name: name, version: PrometheusVersion,
			path: "github.com/prometheus/prometheus", main: "cmd/prometheus",
			// Service discovery is left out: it takes most of the build.
			flags: []string{"-tags", "remove_all_sd"},
			goMod: goMod, goSum: goSum,
		})
	case Jaeger:
		const path = "github.com/jaegertracing/jaeger"
		goMod, goSum, err := modulesOf(ctx, path, JaegerVersion)
		if err != nil {
			return Spec{}, err
		}
		return buildPeer(ctx, cache, module{name: name, version: JaegerVersion, path: path, main: "cmd/all-in-one", goMod: goMod, goSum: goSum})
	}
	return Lookup(name, "", "")
}

// BuildVedette builds the working tree at root into binary.
func BuildVedette(ctx context.Context, root, binary string) (Spec, error) {
	if err := goCommand(ctx, root, "build", "-buildvcs=false", "-trimpath", "-o", binary, "./cmd/vedette"); err != nil {
		return Spec{}, err
	}
	return Lookup(Vedette, binary, vedetteVersion(ctx, root))
}

// module is what a peer is built from.
type module struct {
	name, version, path, main string
	flags                     []string
	goMod, goSum              string
}

// buildPeer builds in a throwaway module, so that ours gains no dependency.
func buildPeer(ctx context.Context, cache string, m module) (_ Spec, err error) {
	binary := filepath.Join(cache, "bin", m.name+"-"+m.version)
	if _, err := os.Stat(binary); err == nil {
		return Lookup(m.name, binary, m.version)
	}
	dir, err := os.MkdirTemp("", "vedette-bench-"+m.name)
	if err != nil {
		return Spec{}, fmt.Errorf("build %s: %w", m.name, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for name, text := range map[string]string{"go.mod": m.goMod, "go.sum": m.goSum} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return Spec{}, fmt.Errorf("build %s: %w", m.name, err)
		}
	}
	if !strings.Contains(m.goMod, m.path+" "+m.version) {
		if err := goCommand(ctx, dir, "get", m.path+"@"+m.version); err != nil {
			return Spec{}, err
		}
	}
	args := append([]string{"build", "-mod=mod", "-trimpath", "-o", binary}, m.flags...)
	if err := goCommand(ctx, dir, append(args, m.path+"/"+m.main)...); err != nil {
		return Spec{}, err
	}
	return Lookup(m.name, binary, m.version)
}

// ownModules returns our go.mod under another module name, and go.sum: the
// versions there are known to build Prometheus.
func ownModules(root string) (goMod, goSum string, err error) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return "", "", fmt.Errorf("read our modules: %w", err)
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		return "", "", fmt.Errorf("read our modules: %w", err)
	}
	return throwaway(mod), string(sum), nil
}

// throwaway is a go.mod under another module name.
func throwaway(goMod []byte) string {
	return regexp.MustCompile(`(?m)^module .*$`).ReplaceAllString(string(goMod), "module bench.local/peer")
}

// modulesOf returns the go.mod of a released module under another module name,
// and its go.sum: what it was released with.
func modulesOf(ctx context.Context, path, version string) (goMod, goSum string, err error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", path+"@"+version)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("download %s@%s: %w:\n%s", path, version, err, out)
	}
	var got struct{ GoMod, Dir string }
	if err := json.Unmarshal(out, &got); err != nil {
		return "", "", fmt.Errorf("download %s@%s: %w", path, version, err)
	}
	mod, err := os.ReadFile(got.GoMod)
	if err != nil {
		return "", "", fmt.Errorf("read modules of %s: %w", path, err)
	}
	sum, err := os.ReadFile(filepath.Join(got.Dir, "go.sum"))
	if err != nil {
		return "", "", fmt.Errorf("read modules of %s: %w", path, err)
	}
	return throwaway(mod), string(sum), nil
}

func goCommand(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	// As make build does, so that both share the build cache.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run go %s: %w:\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// vedetteVersion names the commit of the working tree, if git knows it.
func vedetteVersion(ctx context.Context, root string) string {
	cmd := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return "working tree"
	}
	return strings.TrimSpace(string(out))
}

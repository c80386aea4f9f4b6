package lint

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/vedette-io/vedette"

// arrows says which folders each top-level folder may import, besides itself
// and internal. "*" is all of them.
var arrows = map[string][]string{
	"internal":   {},
	"ebpf":       {},
	"ingest":     {},
	"storage":    {},
	"collector":  {"ingest", "ebpf"},
	"edge":       {"ingest", "collector"},
	"cicd":       {"ingest"},
	"query":      {"storage"},
	"alerting":   {"query"},
	"release":    {"query"},
	"autoscaler": {"query"},
	"dashboards": {},
	"bench":      {"*"},
	"cmd":        {"*"},
}

// Nobody imports these, not even each other.
var roots = []string{"bench", "cmd"}

// leaves import nothing of ours but internal, not even their own folder.
var leaves = []string{"storage/encoding"}

type pkg struct {
	ImportPath, Name, Doc, Dir string
	GoFiles, TestGoFiles       []string
	XTestGoFiles, Imports      []string
}

// path is the package's folder below the module's.
func (p pkg) path() string { return folderOf(p.ImportPath) }

func folderOf(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}

func top(folder string) string {
	t, _, _ := strings.Cut(folder, "/")
	return t
}

func listPackages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Doc,Dir,GoFiles,TestGoFiles,XTestGoFiles,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("go list: %v\n%s", err, exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	var pkgs []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// arrowFault says why folder from may not import folder to, or "".
func arrowFault(from, to string) string {
	allowed, known := arrows[top(from)]
	switch {
	case !known:
		return "folder " + top(from) + " is not in the table of arrows"
	case slices.Contains(roots, top(to)) && (top(to) != top(from)):
		return "nobody imports " + top(to)
	case top(to) == "internal":
		return ""
	case slices.Contains(leaves, from):
		return from + " imports internal packages only"
	case top(to) == top(from), slices.Contains(allowed, "*"), slices.Contains(allowed, top(to)):
		return ""
	}
	return top(from) + " may import " + strings.Join(append([]string{"internal"}, allowed...), ", ") + " only"
}

func TestArrowFault(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		ok       bool
	}{
		{"storage/block", "storage/encoding", true},
		{"storage/encoding", "internal/vfs", true},
		{"storage/encoding", "storage/block", false},
		{"storage/metric", "ingest/buffer", false},
		{"ingest", "ingest/buffer", true},
		{"ingest", "storage/metric", false},
		{"query/api", "storage/metric", true},
		{"query/api", "ingest", false},
		{"internal/config", "ingest", false},
		{"alerting", "query/promql", true},
		{"alerting", "storage/metric", false},
		{"cmd/vedette", "storage/metric", true},
		{"cmd/vedette", "bench/gen", false},
		{"bench/gen", "cmd/vedette", false},
		{"query", "cmd/vedette", false},
		{"helpers", "internal/vfs", false},
	} {
		if got := arrowFault(tc.from, tc.to); (got == "") != tc.ok {
			t.Errorf("%s -> %s: got %q, want allowed %v", tc.from, tc.to, got, tc.ok)
		}
	}
}

// Imports of tests are not bound: a test may drive a package from above.
func TestImportArrows(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, imp := range p.Imports {
			if imp != module && !strings.HasPrefix(imp, module+"/") {
				continue
			}
			if why := arrowFault(p.path(), folderOf(imp)); why != "" {
				t.Errorf("%s imports %s: %s", p.path(), folderOf(imp), why)
			}
		}
	}
}

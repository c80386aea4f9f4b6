package lint

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	maxFileLines    = 800
	maxCmdFileLines = 300
	maxDepth        = 2 // folders below a top-level one
)

var vagueNames = []string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "base", "shared"}

func TestPackages(t *testing.T) {
	for _, p := range listPackages(t) {
		where := p.path()
		if strings.Count(where, "/") > maxDepth {
			t.Errorf("%s: lies more than %d folders deep", where, maxDepth)
		}
		for _, name := range append(strings.Split(where, "/"), p.Name) {
			if slices.Contains(vagueNames, name) {
				t.Errorf("%s: the name %q says nothing", where, name)
			}
		}
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s: no package comment", where)
		}
		limit := maxFileLines
		if top(where) == "cmd" {
			limit = maxCmdFileLines
		}
		for _, name := range p.GoFiles {
			src := readFile(t, filepath.Join(p.Dir, name))
			if lines := bytes.Count(src, []byte("\n")); lines > limit && !isGenerated(src) {
				t.Errorf("%s/%s: %d lines, want at most %d", where, name, lines, limit)
			}
		}
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			checkComments(t, filepath.Join(p.Dir, name))
		}
	}
}

var (
	generatedLine = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)
	promise       = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
)

func isGenerated(src []byte) bool { return generatedLine.Match(src) }

// checkComments wants no promises in comments: what is known to be wrong is
// mended or has an issue.
func checkComments(t *testing.T, file string) {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return
	}
	for _, group := range f.Comments {
		if m := promise.FindString(group.Text()); m != "" {
			t.Errorf("%s: %s in a comment", fset.Position(group.Pos()), m)
		}
	}
	checkExported(t, fset, f)
}

// knownMethods need no comment, for everybody knows what they do.
var knownMethods = []string{"Error", "Unwrap", "Is", "As", "String", "Len", "Less", "Swap"}

// checkExported wants a sentence on every exported function and type.
func checkExported(t *testing.T, fset *token.FileSet, f *ast.File) {
	t.Helper()
	if strings.HasSuffix(fset.Position(f.Pos()).Filename, "_test.go") || ast.IsGenerated(f) {
		return
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !slices.Contains(knownMethods, d.Name.Name) {
				t.Errorf("%s: exported %s has no comment", fset.Position(d.Pos()), d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				if ts, ok := s.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil && ts.Comment == nil {
					t.Errorf("%s: exported %s has no comment", fset.Position(ts.Pos()), ts.Name.Name)
				}
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

// The Makefile's words are what people, CI and the documents use.
var makeWords = []string{
	"all", "run", "build", "test", "race", "lint", "fuzz", "bench", "generate", "check-clean", "e2e", "clean", "help",
}

func TestMakefileWords(t *testing.T) {
	mk := string(readFile(t, "../../Makefile"))
	for _, word := range makeWords {
		if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(word) + `:`).MatchString(mk) {
			t.Errorf("Makefile has no target %q", word)
		}
	}
	ci := string(readFile(t, "../../.ci/run"))
	for _, word := range []string{"test", "lint", "race"} {
		if !strings.Contains(ci, word) {
			t.Errorf(".ci/run does not call make %s", word)
		}
	}
}

var mdLink = regexp.MustCompile(`\]\(([^)\s#]+)[^)]*\)`)

// TestDocumentLinks follows the relative links of all Markdown files.
func TestDocumentLinks(t *testing.T) {
	root := "../.."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "data" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".md" {
			return nil
		}
		for _, m := range mdLink.FindAllSubmatch(readFile(t, path), -1) {
			target := string(m[1])
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), target)); err != nil {
				t.Errorf("%s links to %s, which is not there", path, target)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

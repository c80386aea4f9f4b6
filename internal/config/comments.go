package config

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// Comments finds the doc comments of struct fields in this module's source. It
// is for generating documentation and for tests, where the source is at hand.
type Comments struct {
	root   string // directory of go.mod
	module string // the module's path
	parsed map[string]map[string]string
}

// NewComments reads sources below root, the directory that holds the go.mod of
// module.
func NewComments(root, module string) *Comments {
	return &Comments{root: root, module: module, parsed: map[string]map[string]string{}}
}

// Field returns the doc comment of field name of struct type t as one line, or
// "" if it has none. The name at its start is replaced by key.
func (c *Comments) Field(t reflect.Type, name, key string) (string, error) {
	rel, ok := strings.CutPrefix(t.PkgPath(), c.module)
	if !ok {
		return "", fmt.Errorf("find comment of %s.%s: package %s is not of module %s", t, name, t.PkgPath(), c.module)
	}
	docs, err := c.parseDir(filepath.Join(c.root, filepath.FromSlash(rel)))
	if err != nil {
		return "", err
	}
	text := strings.Join(strings.Fields(docs[t.Name()+"."+name]), " ")
	if rest, ok := strings.CutPrefix(text, name+" "); ok {
		text = "`" + key + "` " + rest
	}
	return text, nil
}

// parseDir returns the comments of all struct fields in one directory, keyed
// Type.Field.
func (c *Comments) parseDir(dir string) (map[string]string, error) {
	if docs, ok := c.parsed[dir]; ok {
		return docs, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	docs := map[string]string{}
	fset := token.NewFileSet()
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, filepath.Join(dir, e.Name()), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if st, ok := spec.Type.(*ast.StructType); ok {
				addFields(docs, spec.Name.Name, st)
			}
			return false
		})
	}
	c.parsed[dir] = docs
	return docs, nil
}

func addFields(docs map[string]string, typeName string, st *ast.StructType) {
	for _, f := range st.Fields.List {
		text := f.Doc.Text()
		if text == "" {
			text = f.Comment.Text()
		}
		for _, n := range f.Names {
			docs[typeName+"."+n.Name] = text
		}
	}
}

package config

import (
	"bytes"
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// Options say where a file's surroundings are found. The zero value asks the
// operating system.
type Options struct {
	// LookupEnv finds environment variables; nil is os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// ReadFile reads secret files; nil is os.ReadFile.
	ReadFile func(string) ([]byte, error)
}

// Decode lays the YAML document data over into, a pointer to a struct that
// holds the defaults. file names the document in errors, and relative secret
// files are looked up beside it. An error is of type Problems and names every
// fault; into is then partly filled and must not be used.
func Decode(file string, data []byte, into any, opts Options) error {
	if opts.LookupEnv == nil {
		opts.LookupEnv = os.LookupEnv
	}
	if opts.ReadFile == nil {
		opts.ReadFile = os.ReadFile
	}
	root, err := parse(file, data)
	if err != nil {
		return err
	}
	if root == nil {
		return nil // an empty file changes nothing
	}
	d := decoder{file: file, opts: opts}
	d.node(root, reflect.ValueOf(into).Elem(), "")
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
		return d.problems
	}
	return nil
}

// parse returns the root mapping of the only document in data, nil if there is
// none.
func parse(file string, data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, syntaxProblem(file, err)
	}
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, Problems{{File: file, Line: second.Line, Text: "second YAML document, want one"}}
	case !errors.Is(err, io.EOF):
		return nil, syntaxProblem(file, err)
	}
	root := doc.Content[0]
	if isNull(root) {
		return nil, nil
	}
	return root, nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func syntaxProblem(file string, err error) Problems {
	p := Problem{File: file, Text: yamlLine.ReplaceAllString(err.Error(), "")}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil && m[1] != "" {
		fmt.Sscanf(m[1], "%d", &p.Line)
	}
	return Problems{p}
}

type decoder struct {
	file     string
	opts     Options
	problems Problems
	depth    int
	nodes    int // visited so far
}

// Bounds on what a file with aliases may unfold to: they can contain themselves
// or double at every level.
const (
	maxDepth = 64
	maxNodes = 100_000
)

func (d *decoder) addf(n *yaml.Node, key, format string, args ...any) {
	d.problems = append(d.problems, Problem{d.file, n.Line, key, fmt.Sprintf(format, args...)})
}

// node decodes n into v. Structs, lists and maps are walked here, so that every
// fault has its key; everything else is a scalar or decodes itself.
func (d *decoder) node(n *yaml.Node, v reflect.Value, key string) {
	d.depth++
	defer func() { d.depth-- }()
	if d.nodes++; d.nodes > maxNodes {
		if d.nodes == maxNodes+1 {
			d.addf(n, key, "more than %d values", maxNodes)
		}
		return
	}
	if d.depth > maxDepth {
		d.addf(n, key, "nested deeper than %d", maxDepth)
		d.nodes = maxNodes + 1 // one such error is enough
		return
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case v.Type() == nodeType:
		v.Set(reflect.ValueOf(*n))
	case isNull(n): // "key:" with nothing behind it keeps the default
	case decodesItself(v.Type()):
		d.leaf(n, v, key)
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.node(n, v.Elem(), key)
	case v.Kind() == reflect.Struct:
		d.mapping(n, v, key)
	case v.Kind() == reflect.Slice:
		d.list(n, v, key)
	case v.Kind() == reflect.Map:
		d.stringMap(n, v, key)
	default:
		d.leaf(n, v, key)
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.MappingNode {
		d.addf(n, key, "got %s, want a section with keys", nodeName(n))
		return
	}
	fields := structFields(v.Type())
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if d.nodes > maxNodes {
			return
		}
		k, val := n.Content[i], n.Content[i+1]
		path := join(key, k.Value)
		if line, twice := seen[k.Value]; twice {
			d.addf(k, path, "given twice, first on line %d", line)
			continue
		}
		seen[k.Value] = k.Line
		if f, ok := fields.byKey(k.Value); ok {
			d.node(val, v.FieldByIndex(f.index), path)
			continue
		}
		if f, ok := fields.byFileKey(k.Value); ok {
			if line, twice := seen[f.key]; twice {
				d.addf(k, path, "given together with %s on line %d, want one of them", f.key, line)
				continue
			}
			seen[f.key] = k.Line
			d.secretFile(val, v, f, path)
			continue
		}
		if near := nearest(k.Value, fields.keys()); near != "" {
			d.addf(k, path, "unknown key, did you mean %q?", near)
		} else {
			d.addf(k, path, "unknown key, want one of %s", strings.Join(fields.keys(), ", "))
		}
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.SequenceNode {
		d.addf(n, key, "got %s, want %s", nodeName(n), TypeName(v.Type()))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, c := range n.Content {
		if d.nodes > maxNodes {
			return
		}
		d.node(c, out.Index(i), fmt.Sprintf("%s[%d]", key, i))
	}
	v.Set(out)
}

func (d *decoder) stringMap(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.MappingNode {
		d.addf(n, key, "got %s, want %s", nodeName(n), TypeName(v.Type()))
		return
	}
	out := reflect.MakeMap(v.Type())
	for i := 0; i+1 < len(n.Content); i += 2 {
		if d.nodes > maxNodes {
			return
		}
		k, val := n.Content[i], n.Content[i+1]
		path := join(key, k.Value)
		mk := reflect.ValueOf(k.Value).Convert(v.Type().Key())
		if out.MapIndex(mk).IsValid() {
			d.addf(k, path, "given twice")
			continue
		}
		mv := reflect.New(v.Type().Elem()).Elem()
		d.node(val, mv, path)
		out.SetMapIndex(mk, mv)
	}
	v.Set(out)
}

func (d *decoder) leaf(n *yaml.Node, v reflect.Value, key string) {
	n, ok := d.expand(n, key)
	if !ok {
		return
	}
	err := n.Decode(v.Addr().Interface())
	if err == nil {
		return
	}
	if v.Type() == durationType {
		// Days, weeks and years, as Prometheus writes them.
		if long, err := model.ParseDuration(n.Value); err == nil {
			v.SetInt(int64(long))
			return
		}
	}
	var typeErr *yaml.TypeError
	if errors.As(err, &typeErr) || v.Type() == durationType {
		want := TypeName(v.Type())
		switch {
		case v.Type() == durationType:
			want += " such as 30s, 5m or 3d"
		case v.CanInt() || v.CanUint():
			want += ", without a unit"
		}
		d.addf(n, key, "got %s, want %s", nodeName(n), want)
		return
	}
	d.addf(n, key, "%s", yamlLine.ReplaceAllString(err.Error(), ""))
}

// secretFile reads the secret for v from the file that n names.
// secretFile reads the secret f of the struct v. A field beside it of the same name
// and File, with the YAML name -, is set to the file, for those who read it again.
func (d *decoder) secretFile(n *yaml.Node, v reflect.Value, f field, key string) {
	var name string
	d.leaf(n, reflect.ValueOf(&name).Elem(), key)
	if name == "" {
		return
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(d.file), name)
	}
	b, err := d.opts.ReadFile(name)
	if err != nil {
		d.addf(n, key, "read secret: %v", err)
		return
	}
	v.FieldByIndex(f.index).SetString(strings.TrimRight(string(b), "\r\n"))
	beside := v.FieldByIndex(f.index[:len(f.index)-1]).FieldByName(f.name + "File")
	if !beside.IsValid() || beside.Kind() != reflect.String {
		return
	}
	if absolute, err := filepath.Abs(name); err == nil {
		name = absolute
	}
	beside.SetString(name)
}

var envRef = regexp.MustCompile(`\$?\$\{([^}]*)\}?`)

// expand returns a copy of the scalar n with ${NAME} replaced. The replacement
// happens behind the YAML parser, so a variable cannot add keys.
func (d *decoder) expand(n *yaml.Node, key string) (*yaml.Node, bool) {
	if n.Kind != yaml.ScalarNode || !strings.Contains(n.Value, "${") {
		return n, true
	}
	ok := true
	value := envRef.ReplaceAllStringFunc(n.Value, func(ref string) string {
		if strings.HasPrefix(ref, "$$") {
			return ref[1:]
		}
		if !strings.HasSuffix(ref, "}") {
			d.addf(n, key, "no closing brace after %q", ref)
			ok = false
			return ""
		}
		name := ref[2 : len(ref)-1]
		v, set := d.opts.LookupEnv(name)
		if !set {
			d.addf(n, key, "environment variable %q is not set", name)
			ok = false
		}
		return v
	})
	c := *n
	c.Value = value
	if c.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		c.Tag = "" // a plain scalar may have become a number
	}
	return &c, ok
}

var (
	nodeType     = reflect.TypeFor[yaml.Node]()
	durationType = reflect.TypeFor[time.Duration]()
	secretType   = reflect.TypeFor[Secret]()

	unmarshalers = []reflect.Type{
		reflect.TypeFor[yaml.Unmarshaler](),
		reflect.TypeFor[interface{ UnmarshalYAML(func(any) error) error }](),
		reflect.TypeFor[encoding.TextUnmarshaler](),
	}
)

func decodesItself(t reflect.Type) bool {
	for _, u := range unmarshalers {
		if reflect.PointerTo(t).Implements(u) {
			return true
		}
	}
	return false
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func nodeName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a section with keys"
	case yaml.SequenceNode:
		return "a list"
	default:
		return fmt.Sprintf("%q", n.Value)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

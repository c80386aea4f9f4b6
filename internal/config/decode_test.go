package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

type testLimits struct {
	// MaxSeries bounds a tenant.
	MaxSeries int     `yaml:"max_series"`
	Ratio     float64 `yaml:"ratio"`
}

type testServer struct {
	Listen  string        `yaml:"listen"`
	Timeout time.Duration `yaml:"timeout"`
	// Token opens the door,
	// for whoever has it.
	Token Secret     `yaml:"token"`
	Level slog.Level `yaml:"level"`
}

type testConfig struct {
	Server  testServer            `yaml:"server"`
	Limits  testLimits            `yaml:",inline"`
	Tenants map[string]testLimits `yaml:"tenants"`
	Names   []string              `yaml:"names"`
	Extra   *testLimits           `yaml:"extra"`
	Scrape  yaml.Node             `yaml:"scrape_configs"`
	Skipped int                   `yaml:"-"`
}

func testDefaults() testConfig {
	return testConfig{
		Server: testServer{Listen: "127.0.0.1:1", Timeout: 30 * time.Minute},
		Limits: testLimits{MaxSeries: 10, Ratio: 0.5},
	}
}

func testOptions() Options {
	return Options{
		LookupEnv: func(name string) (string, bool) {
			v, ok := map[string]string{"PORT": "99", "EMPTY": "", "WORD": "a: b"}[name]
			return v, ok
		},
		ReadFile: func(name string) ([]byte, error) {
			if name == "etc/token" || name == "/abs" {
				return []byte("hunter2\n"), nil
			}
			return nil, fs.ErrNotExist
		},
	}
}

func TestDecode(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want func(*testConfig)
	}{
		"empty":           {"", func(*testConfig) {}},
		"only a comment":  {"# nothing\n", func(*testConfig) {}},
		"null":            {"~\n", func(*testConfig) {}},
		"empty section":   {"server:\n", func(*testConfig) {}},
		"defaults remain": {"server:\n  listen: x\n", func(c *testConfig) { c.Server.Listen = "x" }},
		"scalars": {"server: {timeout: 5s, level: debug, token: abc}\nmax_series: 7\nratio: 2", func(c *testConfig) {
			c.Server.Timeout, c.Server.Level, c.Server.Token = 5*time.Second, slog.LevelDebug, "abc"
			c.Limits = testLimits{7, 2}
		}},
		"nested": {"tenants:\n  a: {ratio: 1}\nnames: [x, y]\nextra: {max_series: 3}\n", func(c *testConfig) {
			c.Tenants = map[string]testLimits{"a": {Ratio: 1}}
			c.Names = []string{"x", "y"}
			c.Extra = &testLimits{MaxSeries: 3}
		}},
		"alias":                  {"tenants: {a: &l {ratio: 1}, b: *l}", func(c *testConfig) { c.Tenants = map[string]testLimits{"a": {Ratio: 1}, "b": {Ratio: 1}} }},
		"environment number":     {"max_series: ${PORT}", func(c *testConfig) { c.Limits.MaxSeries = 99 }},
		"environment inside":     {"server: {listen: '127.0.0.1:${PORT}'}", func(c *testConfig) { c.Server.Listen = "127.0.0.1:99" }},
		"environment is no YAML": {"server: {listen: \"${WORD}\"}", func(c *testConfig) { c.Server.Listen = "a: b" }},
		"escaped":                {"server: {listen: '$${PORT}$x'}", func(c *testConfig) { c.Server.Listen = "${PORT}$x" }},
		"secret file":            {"server: {token_file: token}", func(c *testConfig) { c.Server.Token = "hunter2" }},
		"absolute":               {"server: {token_file: /abs}", func(c *testConfig) { c.Server.Token = "hunter2" }},
	} {
		t.Run(name, func(t *testing.T) {
			got, want := testDefaults(), testDefaults()
			tc.want(&want)
			if err := Decode("etc/vedette.yml", []byte(tc.in), &got, testOptions()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"unknown key":       {"server:\n  lisen: x\n", `f.yml:2: server.lisen: unknown key, did you mean "listen"?`},
		"unknown, far off":  {"names: []\nzzzzzzzzz: 1\n", "f.yml:2: zzzzzzzzz: unknown key, want one of server, max_series, ratio, tenants, names, extra, scrape_configs"},
		"in a map":          {"tenants:\n  a:\n    ratoi: 1\n", `f.yml:3: tenants.a.ratoi: unknown key, did you mean "ratio"?`},
		"inlined":           {"max_sries: 1\n", `f.yml:1: max_sries: unknown key, did you mean "max_series"?`},
		"number":            {"\nmax_series: many\n", `f.yml:2: max_series: got "many", want integer, without a unit`},
		"duration":          {"server: {timeout: 5}", `f.yml:1: server.timeout: got "5", want duration such as 30s, 5m or 3d`},
		"section":           {"server: 5", `f.yml:1: server: got "5", want a section with keys`},
		"list":              {"names: {a: b}", `f.yml:1: names: got a section with keys, want list of string`},
		"list element":      {"names: [a, {b: c}]", `f.yml:1: names[1]: got a section with keys, want string`},
		"map":               {"tenants: [a]", `f.yml:1: tenants: got a list, want map of section`},
		"own decoder":       {"server: {level: loud}", `f.yml:1: server.level: slog: level string "loud": unknown name`},
		"root":              {"- a", `f.yml:1: got a list, want a section with keys`},
		"twice":             {"max_series: 1\nmax_series: 2\n", "f.yml:2: max_series: given twice, first on line 1"},
		"map key twice":     {"tenants:\n  a: {}\n  a: {}\n", "f.yml:3: tenants.a: given twice"},
		"secret and file":   {"server:\n  token: a\n  token_file: b\n", "f.yml:3: server.token_file: given together with token on line 2, want one of them"},
		"secret file":       {"server:\n  token_file: b\n", "f.yml:2: server.token_file: read secret: file does not exist"},
		"file of no secret": {"server:\n  listen_file: b\n", `f.yml:2: server.listen_file: unknown key, did you mean "token_file"?`},
		"environment":       {"server: {listen: '${NOPE}'}", `f.yml:1: server.listen: environment variable "NOPE" is not set`},
		"no brace":          {"server: {listen: 'a${NOPE'}", `f.yml:1: server.listen: no closing brace after "${NOPE"`},
		"two documents":     {"names: []\n---\nnames: []\n", "f.yml:2: second YAML document, want one"},
		"syntax":            {"a: b\n  c: d\n", "f.yml:2: mapping values are not allowed in this context"},
		"all of them":       {"names: 3\nserver:\n  lisen: x\nratio: {}\n", "f.yml:1: names: got \"3\", want list of string\nf.yml:3: server.lisen: unknown key, did you mean \"listen\"?\nf.yml:4: ratio: got a section with keys, want number"},
	} {
		t.Run(name, func(t *testing.T) {
			got := testDefaults()
			err := Decode("f.yml", []byte(tc.in), &got, testOptions())
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v, want Problems", err)
			}
			if err.Error() != tc.want {
				t.Errorf("got:\n%s\nwant:\n%s", err, tc.want)
			}
		})
	}
}

// Aliases that contain themselves, once or twice at each level, must cost little.
func TestDecodeSelfReference(t *testing.T) {
	type loop struct {
		Next  *testConfig `yaml:"next"`
		Lists [][][][]any `yaml:"lists"`
		Loop  []*loopList `yaml:"loop"`
	}
	for _, in := range []string{
		"next: &a {tenants: {x: *a}}\n",
		"loop: &a [{list: *a}]\n",
		"loop: &a [{list: *a}, {list: *a}]\n",
		"lists: &a [*a, *a, *a]\n",
	} {
		var l loop
		if err := Decode("f.yml", []byte(in), &l, Options{}); err == nil {
			t.Errorf("%s: got nil, want an error for an anchor that contains itself", in)
		}
	}
}

type loopList struct {
	List []*loopList `yaml:"list"`
}

func TestSecretIsHidden(t *testing.T) {
	c := testDefaults()
	c.Server.Token = "hunter2"
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("config", "token", c.Server.Token, "server", c.Server)
	text, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for how, out := range map[string]string{
		"fmt": fmt.Sprintf("%v %+v %#v %s", c, c, c, c.Server.Token), "yaml": string(text), "slog": log.String(),
	} {
		if strings.Contains(out, "hunter2") {
			t.Errorf("%s shows the secret: %s", how, out)
		}
	}
	if c.Server.Token.Reveal() != "hunter2" {
		t.Error("Reveal does not")
	}
}

func TestExtract(t *testing.T) {
	const doc = "# top\nserver:\n  listen: x\nglobal:\n  scrape_interval: 5s\n# about names\nnames: [a]\nscrape_configs:\n- job_name: a\n"
	got, err := Extract("f.yml", []byte(doc), "global", "scrape_configs")
	if err != nil {
		t.Fatal(err)
	}
	want := "# top\n\n\nglobal:\n  scrape_interval: 5s\n# about names\n\nscrape_configs:\n- job_name: a\n"
	if string(got) != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	got, err = Extract("f.yml", []byte("{names: [a], global: {x: 1}}"), "global")
	if err != nil || string(got) != "global: {x: 1}\n" {
		t.Errorf("flow: got %q, %v", got, err)
	}
	if got, err = Extract("f.yml", nil, "global"); got != nil || err != nil {
		t.Errorf("empty: got %q, %v", got, err)
	}
	if _, err = Extract("f.yml", []byte("[]"), "global"); err == nil {
		t.Error("list: got nil, want an error")
	}
}

func TestDescribe(t *testing.T) {
	comments := NewComments("../..", "github.com/vedette-io/vedette")
	var got strings.Builder
	for _, k := range Describe(testDefaults()) {
		fmt.Fprintf(&got, "%s (%s) %s\n", k.Path, k.Type, k.Default)
	}
	const want = `server (section) 
server.listen (string) 127.0.0.1:1
server.timeout (duration) 30m
server.token (secret) 
server.token_file (file name) 
server.level (level) INFO
max_series (integer) 10
ratio (number) 0.5
tenants (map of section) 
tenants.<name>.max_series (integer) 0
tenants.<name>.ratio (number) 0
names (list of string) 
extra (section) 
extra.max_series (integer) 0
extra.ratio (number) 0
scrape_configs (Prometheus syntax) 
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	for _, k := range Describe(Problem{}) {
		text, err := comments.Field(k.Struct, k.Field, k.Path)
		if err != nil {
			t.Fatal(err)
		}
		if k.Field == "Line" && text != "1-based; 0 if the fault has no place in the file" {
			t.Errorf("comment of Line: got %q", text)
		}
	}
}

func TestNearest(t *testing.T) {
	keys := []string{"listen", "timeout", "token", "data_dir"}
	for in, want := range map[string]string{
		"lsiten": "listen", "tiemout": "timeout", "tokn": "token", "datadir": "data_dir", "quux": "", "zzzzzzzzzz": "",
	} {
		if got := nearest(in, keys); got != want {
			t.Errorf("nearest(%q): got %q, want %q", in, got, want)
		}
	}
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"abc", "acb", 1}, {"kitten", "sitting", 3}} {
		if got := editDistance(tc.a, tc.b); got != tc.want {
			t.Errorf("editDistance(%q, %q): got %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

// FuzzDecode checks that any bytes give a value or an error.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "server: {lisen: x}", "a: &a [*a]", "tenants: {a: &l {ratio: 1}, b: *l}", "${", "list: &a [{list: *a}, {list: *a}]", "x: !!binary aa"} {
		f.Add([]byte(s))
	}
	if b, err := os.ReadFile("decode_test.go"); err == nil {
		f.Add(b[:200])
	}
	f.Add([]byte("\r?\r?\r\r?"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var l loopList
		_ = Decode("f.yml", data, &l, testOptions())
		c := testDefaults()
		err := Decode("f.yml", data, &c, testOptions())
		if kept, xerr := Extract("f.yml", data, "server", "names"); xerr == nil && err == nil {
			c := testDefaults()
			if err := Decode("f.yml", kept, &c, testOptions()); err != nil && !strings.Contains(string(data), "*") {
				t.Errorf("extracted sections do not decode: %v", err)
			}
		}
	})
}

func TestDurationsKnowDays(t *testing.T) {
	var c struct {
		A time.Duration `yaml:"a"`
		B time.Duration `yaml:"b"`
		C time.Duration `yaml:"c"`
	}
	if err := Decode("f.yml", []byte("a: 30d\nb: 1w2d\nc: 1h30m\n"), &c, Options{}); err != nil {
		t.Fatal(err)
	}
	if c.A != 720*time.Hour || c.B != 216*time.Hour || c.C != 90*time.Minute {
		t.Errorf("got %s, %s and %s", c.A, c.B, c.C)
	}
}

// A secret of a file is read again, at most once a second; one that is gone or empty
// stays as it was.
func TestLiveSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "token")
		write := func(text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("one\n")
		var c struct {
			Token     Secret `yaml:"token"`
			TokenFile string `yaml:"-"`
		}
		if err := Decode("f.yml", []byte("token_file: "+file), &c, Options{}); err != nil || c.Token != "one" || c.TokenFile != file {
			t.Fatalf("decode: got %q of %q, %v", c.Token.Reveal(), c.TokenFile, err)
		}
		live, fixed := NewLiveSecret(c.Token, c.TokenFile), NewLiveSecret("fixed", "")
		want := func(text string) {
			t.Helper()
			if got := live.Reveal(); got != text {
				t.Errorf("got %q, want %q", got, text)
			}
		}
		write("two\n")
		want("one")
		<-time.After(readSecretAgain)
		want("two")
		write("")
		<-time.After(readSecretAgain)
		want("two")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		<-time.After(readSecretAgain)
		want("two")
		if live.String() != hidden || fixed.Reveal() != "fixed" || !fixed.IsSet() || (*LiveSecret)(nil).IsSet() {
			t.Error("a secret is shown, or one without a file is not there")
		}
	})
}

// Files are replaced as Kubernetes does it, by a link to another directory; a pipe is
// not waited for; and whoever asks while a file is read gets what was.
func TestReadAgain(t *testing.T) {
	dir := t.TempDir()
	name := func(s string) string { return filepath.Join(dir, s) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range []string{"1", "2"} {
		must(os.Mkdir(name(version), 0o700))
		must(os.WriteFile(filepath.Join(name(version), "token"), []byte("token-"+version+"\n"), 0o600))
	}
	must(os.Symlink("1", name("..data")))
	must(os.Symlink("..data/token", name("token")))
	live := NewLiveSecret("token-1", name("token"))
	want := func(token string) {
		t.Helper()
		live.mu.Lock()
		live.read = time.Time{}
		live.mu.Unlock()
		if got := live.Reveal(); got != token {
			t.Errorf("got %s, want %s", got, token)
		}
	}
	want("token-1")
	must(os.Symlink("2", name("new")))
	must(os.Rename(name("new"), name("..data")))
	want("token-2")
	must(os.Remove(name("token")))
	want("token-2")
	must(syscall.Mkfifo(name("token"), 0o600))
	want("token-2")
	must(os.Remove(name("token")))
	must(os.WriteFile(name("token"), make([]byte, maxReadAgain+1), 0o600))
	want("token-2")
	must(os.Truncate(name("token"), 0))
	want("token-2")
	must(os.WriteFile(name("token"), []byte("token-3"), 0o600))
	live.reading = true
	want("token-2")
	live.reading = false
	want("token-3")
}

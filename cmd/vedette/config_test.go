package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vedette-io/vedette/internal/config"
)

// TestBadConfigs compares what check-config says of each file in testdata with
// the text beside it; -rewrite writes the texts anew.
func TestBadConfigs(t *testing.T) {
	files, err := filepath.Glob("testdata/config/bad/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v, %v, want files", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var out, errOut strings.Builder
			err := checkConfigCmd{File: file}.Run(streams{&out, &errOut})
			if err != exitError(exitFault) || out.Len() > 0 {
				t.Fatalf("got %v and %q, want exit code %d and a fault", err, out.String(), exitFault)
			}
			golden := strings.TrimSuffix(file, ".yml") + ".txt"
			if *rewrite {
				if err := os.WriteFile(golden, []byte(errOut.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), errOut.String()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestGoodConfigs(t *testing.T) {
	t.Setenv("VEDETTE_TEST_PORT", "9999")
	var out strings.Builder
	for file, jobs := range map[string]string{"full": "scrape jobs: 3", "empty": "scrape jobs: 1"} {
		file = "testdata/config/good/" + file + ".yml"
		if err := (checkConfigCmd{File: file}).Run(streams{&out, &out}); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if !strings.Contains(out.String(), jobs) {
			t.Errorf("%s: got %s, want %s", file, &out, jobs)
		}
	}
	l, err := loadConfig("testdata/config/good/full.yml")
	if err != nil {
		t.Fatal(err)
	}
	if l.HTTP.Listen != "127.0.0.1:9999" || l.HTTP.BearerToken.Reveal() != "open sesame" {
		t.Errorf("got %q and %q", l.HTTP.Listen, l.HTTP.BearerToken.Reveal())
	}
	text := l.redacted()
	if strings.Contains(text, "sesame") {
		t.Errorf("the shown configuration has the secret in it:\n%s", text)
	}
	for _, part := range []string{"retention: 2160h", "job_name: node", "site: here"} {
		if !strings.Contains(text, part) {
			t.Errorf("the shown configuration lacks %s:\n%s", part, text)
		}
	}
}

func TestScrapeSelf(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want int
	}{
		"no file":   {"", 1},
		"no key":    {"log: {level: warn}\nglobal: {scrape_interval: 1m}\n", 1},
		"key":       {"scrape_configs: [{job_name: a, static_configs: [{targets: ['x:1']}]}]\n", 1},
		"nothing":   {"scrape_configs: []\n", 0},
		"one files": {"scrape_config_files: []\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			file := ""
			if tc.text != "" {
				file = filepath.Join(t.TempDir(), "v.yml")
				if err := os.WriteFile(file, []byte(tc.text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			l, err := loadConfig(file)
			if err != nil {
				t.Fatal(err)
			}
			l.HTTP.BearerToken = config.Secret("secret")
			c, err := l.scrapeConfig("127.0.0.1:9190")
			if err != nil {
				t.Fatal(err)
			}
			jobs, err := c.GetScrapeConfigs()
			if err != nil || len(jobs) != tc.want {
				t.Fatalf("got %d jobs, %v, want %d", len(jobs), err, tc.want)
			}
			if tc.want == 1 && name != "key" && string(jobs[0].HTTPClientConfig.Authorization.Credentials) != "secret" {
				t.Error("the scrape of itself has no token")
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	var out, errOut strings.Builder
	if code := run([]string{"check-config", "testdata/none.yml"}, &out, &errOut); code != exitFault || !strings.Contains(errOut.String(), "none.yml") {
		t.Errorf("got code %d and %q", code, errOut.String())
	}
	if code := run([]string{"run", "--confg", "x"}, &out, &errOut); code != exitUsage {
		t.Errorf("unknown flag: got code %d, want %d", code, exitUsage)
	}
	if code := run([]string{"run", "--listen", "nonsense"}, &out, &errOut); code != exitFault {
		t.Errorf("bad address: got code %d, want %d", code, exitFault)
	}
}

// Every command has help that says more than its name.
func TestHelp(t *testing.T) {
	for _, args := range []string{"", "run", "check-config", "query", "store", "store verify", "store dump", "store repair", "store snapshot", "bench", "version"} {
		var out, errOut strings.Builder
		code := run(append(strings.Fields(args), "--help"), &out, &errOut)
		if code != exitOK || out.Len() < 100 {
			t.Errorf("vedette %s --help: code %d, %q %s", args, code, out.String(), errOut.String())
		}
	}
}

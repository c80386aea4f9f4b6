package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vedette-io/vedette/internal/config"
)

//go:generate go test . -run TestConfigurationPage -rewrite

const (
	modulePath = "github.com/vedette-io/vedette"
	configPage = "../../docs/configuration.md"
)

var rewrite = flag.Bool("rewrite", false, "write docs/configuration.md anew")

const configPageHead = `# Configuration

<!-- Written by "make generate" from the doc comments of the configuration structs. Change those. -->

` + "`vedette run --config FILE`" + ` reads one YAML file. Every key has a default, so the file holds only what
differs, and no file at all is a working server. ` + "`vedette check-config FILE`" + ` checks a file and names every
fault with its line: an unknown key (and the nearest that exists), a wrong type, a value that cannot be, a key given
twice.

- Durations are written ` + "`90s`, `5m`, `1h30m`, `15d`, `2w`" + `. Sizes are numbers of bytes.
- ` + "`${NAME}`" + ` in a value stands for the environment variable NAME, which must be set; ` + "`$${`" + ` is a literal ` + "`${`" + `.
  The sections in Prometheus syntax are left as they are.
- A secret ` + "`x`" + ` can be read from a file, without its trailing line end, by giving ` + "`x_file`" + ` instead; a relative
  name starts at the configuration file's directory. Secrets are never logged or shown.
- The flags ` + "`--data`" + ` and ` + "`--listen`" + ` win over the file.

A file that scrapes two node_exporters and keeps data for 90 days:

` + "```yaml" + `
data_dir: /var/lib/vedette
store:
  retention: 90d
scrape_configs:
  - job_name: node
    scrape_interval: 15s
    static_configs:
      - targets: ["127.0.0.1:9100", "10.0.0.7:9100"]
` + "```" + `
`

// renderConfigPage documents every key of the configuration.
func renderConfigPage() (string, error) {
	comments := config.NewComments("../..", modulePath)
	var b strings.Builder
	b.WriteString(configPageHead)
	inTable, section := false, ""
	for _, k := range config.Describe(defaultConfig()) {
		name := k.Path
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			name = name[i+1:]
		}
		text, err := comments.Field(k.Struct, k.Field, name)
		if err != nil {
			return "", err
		}
		if text == "" {
			return "", fmt.Errorf("%s.%s has no doc comment: %s is not documented", k.Struct, k.Field, k.Path)
		}
		if strings.HasSuffix(k.Path, "_file") && k.Type == "file name" {
			text = "File to read `" + strings.TrimSuffix(name, "_file") + "` from."
		}
		switch {
		case k.Section:
			fmt.Fprintf(&b, "\n## %s\n\n%s\n", k.Path, text)
			inTable, section = false, k.Path
			continue
		case !strings.Contains(k.Path, "."):
			if section != "" || !inTable {
				fmt.Fprintf(&b, "\n## %s\n\n", k.Path)
				fmt.Fprintf(&b, "%s %s\n", text, typeAndDefault(k))
				inTable, section = false, k.Path
				continue
			}
		case !inTable:
			b.WriteString("\n| key | type | default | |\n|---|---|---|---|\n")
			inTable = true
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Path, k.Type, code(k.Default), strings.ReplaceAll(text, "|", "\\|"))
	}
	return b.String(), nil
}

func typeAndDefault(k config.Key) string {
	if k.Default == "" {
		return "(" + k.Type + ")"
	}
	return "(" + k.Type + ", default " + code(k.Default) + ")"
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

// TestConfigurationPage checks that the page and the code agree.
func TestConfigurationPage(t *testing.T) {
	want, err := renderConfigPage()
	if err != nil {
		t.Fatal(err)
	}
	if *rewrite {
		if err := os.WriteFile(configPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(configPage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("docs/configuration.md is not what the code says, run make generate: -page +code\n%s", diff)
	}
}

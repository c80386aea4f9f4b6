package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The configurations in deploy and in the agent's page are ones that the agent takes.
func TestDeployedConfigurations(t *testing.T) {
	t.Setenv("NODE_NAME", "node-1")
	check := func(where, text string) {
		t.Helper()
		dir := t.TempDir()
		token := filepath.Join(dir, "token")
		if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		text = regexp.MustCompile(`bearer_token_file: .*`).ReplaceAllString(text, "bearer_token_file: "+token)
		file := filepath.Join(dir, "agent.yml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := loadConfig(file)
		if err != nil || !l.Forward.IsSet() {
			t.Errorf("%s: got %v, has a destination: %t", where, err, l.Forward.IsSet())
		}
	}

	const manifest = "../../deploy/kubernetes/agent.yaml"
	if text, err := os.ReadFile(manifest); err != nil || regexp.MustCompile(`resources: .*nodes/proxy`).Match(text) {
		t.Errorf("%s: gives the right to run commands in every pod: nodes/proxy (%v)", manifest, err)
	}
	f, err := os.Open(manifest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kinds := map[string]int{}
	for d := yaml.NewDecoder(f); ; {
		var object struct {
			Kind string            `yaml:"kind"`
			Data map[string]string `yaml:"data"`
		}
		if err := d.Decode(&object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		kinds[object.Kind]++
		if text, ok := object.Data["agent.yml"]; ok {
			check("deploy/kubernetes/agent.yaml", text)
		}
	}
	if kinds["DaemonSet"] != 1 || kinds["ConfigMap"] != 1 {
		t.Errorf("deploy/kubernetes/agent.yaml: got %v, want a DaemonSet and a ConfigMap", kinds)
	}

	page, err := os.ReadFile("../../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		examples++
		check("docs/agent.md", block[1])
	}
	if examples < 3 || !strings.Contains(string(page), "vedette collect") {
		t.Errorf("docs/agent.md: got %d examples, want 3", examples)
	}
}

// An agent without a destination says so.
func TestCollectWantsDestination(t *testing.T) {
	var out, errOut strings.Builder
	if code := run([]string{"collect", "--data", t.TempDir()}, &out, &errOut); code != exitFault || !strings.Contains(errOut.String(), "forward.endpoint") {
		t.Errorf("got code %d and %q, want %d and the key forward.endpoint", code, errOut.String(), exitFault)
	}
}

// Flags that a configuration of the Collector has no use for are not passed over.
func TestCollectRefusesFlagsOfOwnFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "collector.yaml")
	if err := os.WriteFile(file, []byte("receivers: {}\nservice: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errOut strings.Builder
	if code := run([]string{"collect", "--config", file, "--data", t.TempDir()}, &out, &errOut); code != exitFault || !strings.Contains(errOut.String(), "--data") {
		t.Errorf("got code %d and %q, want %d and the flag --data", code, errOut.String(), exitFault)
	}
}

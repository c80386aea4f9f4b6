package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each fault of a configuration is told once, in a line, with the file and the key.
func TestExplain(t *testing.T) {
	const pipeline = "exporters: {nop: {}}\nservice: {pipelines: {metrics: {receivers: [vedette_ebpf], exporters: [nop]}}}\n"
	for config, want := range map[string][]string{
		"receivers: {vedette_ebpf: {maxseries: 1, collection_interval: abc}}\n" + pipeline: {
			`receivers::vedette_ebpf: collection_interval: got "abc", want duration such as 30s, 5m or 3d`,
			`receivers::vedette_ebpf: maxseries: unknown key, did you mean "max_series"?`,
		},
		"receivers: {vedette_ebpf: [1]}\n" + pipeline: {
			`receivers::vedette_ebpf: expected type 'map[string]interface {}', got unconvertible type '[]interface {}'`,
		},
		"receivers: {vedette_ebpf: {max_series: 1, features: [htpp]}, vedette_host: {collection_interval: 1ms}}\n" +
			strings.ReplaceAll(pipeline, "[vedette_ebpf]", "[vedette_ebpf, vedette_host, other]"): {
			`receivers::vedette_ebpf: features: got "htpp", want some of http, stream, tcp, dns, profile, tls, process, block, runq`,
			`receivers::vedette_ebpf: max_series: got 1, want 64 to 1048576`,
			`receivers::vedette_host: collection_interval: got 1ms, want at least 1s`,
			`service::pipelines::metrics: references receiver "other" which is not configured`,
		},
	} {
		file := filepath.Join(t.TempDir(), "collector.yaml")
		require.NoError(t, os.WriteFile(file, []byte(config), 0o644))
		var out strings.Builder
		require.False(t, execute([]string{"validate", "--config", file}, &out))
		got := strings.Split(strings.TrimSpace(out.String()), "\n")
		slices.Sort(got)
		for i := range want {
			want[i] = file + ": " + want[i]
		}
		require.Equal(t, want, got)
	}
}

// What is not about the configuration is told as it is, once.
func TestExecuteFails(t *testing.T) {
	var out strings.Builder
	require.False(t, execute([]string{"nonsense"}, &out))
	require.Equal(t, 1, strings.Count(out.String(), "nonsense"), out.String())
}

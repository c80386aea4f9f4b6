package log

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// The configurations in docs/logs.md are valid.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/logs.md")
	require.NoError(t, err)
	sources := 0
	for i, part := range strings.Split(string(text), "```") {
		example, ok := strings.CutPrefix(part, "yaml\n")
		if i%2 == 0 || !ok {
			continue
		}
		var c struct {
			Collect struct{ Logs Config }
			Buffer  buffer.Config
		}
		c.Collect.Logs, c.Buffer = DefaultConfig(), buffer.DefaultConfig()
		decoder := yaml.NewDecoder(strings.NewReader(example))
		decoder.KnownFields(true)
		require.NoError(t, decoder.Decode(&c), example)
		require.NoError(t, c.Collect.Logs.Validate(), example)
		require.NoError(t, c.Buffer.Validate(), example)
		sources += len(c.Collect.Logs.Sources)
	}
	require.Equal(t, 6, sources)
}

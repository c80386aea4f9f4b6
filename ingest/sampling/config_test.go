package sampling

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

func TestYAML(t *testing.T) {
	c := DefaultConfig()
	require.NoError(t, yaml.Unmarshal([]byte(`
probability: 0.5
tenants:
  load-tests: {probability: 0.01}
  loud: {spans_per_second: 100}
tail: {enabled: true, probability: 0.2}
`), &c))
	require.NoError(t, c.Validate())
	require.Equal(t, HeadConfig{Probability: 0.01}, c.headOf("load-tests"))
	require.Equal(t, HeadConfig{Probability: 0.5, SpansPerSecond: 100}, c.headOf("loud"))
	require.Equal(t, HeadConfig{Probability: 0.5}, c.headOf("default"))
	require.Equal(t, TailConfig{Enabled: true, Errors: true, SlowQuantile: 0.99, RarePerHour: 10, Probability: 0.2}, c.Tail)
}

package component

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/collector/confmap"
	"go.yaml.in/yaml/v3"

	"github.com/vedette-io/vedette/internal/config"
)

// Validator is a source's configuration.
type Validator interface{ Validate() error }

// Config is a source's configuration C, and when and as what it is gathered.
type Config[C Validator] struct {
	// CollectionInterval is the time between two samples.
	CollectionInterval time.Duration `yaml:"collection_interval"`

	// Instance is service.instance.id of what is measured; empty is the machine's
	// name.
	Instance string `yaml:"instance"`

	// Source is what is measured and how.
	Source C `yaml:",inline"`
}

// Unmarshal lays what the user wrote over the defaults that c holds. Unknown keys
// are errors.
func (c *Config[C]) Unmarshal(conf *confmap.Conf) error { return Decode(conf, c) }

// Validate names every bad key.
func (c *Config[C]) Validate() error {
	var err error
	if c.CollectionInterval < time.Second {
		err = fmt.Errorf("collection_interval: got %s, want at least 1s", c.CollectionInterval)
	}
	return errors.Join(err, c.Source.Validate())
}

// InstanceName is Instance or the machine's name.
func (c *Config[C]) InstanceName() string {
	if c.Instance != "" {
		return c.Instance
	}
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

// Decode lays a component's section over into, a pointer to a struct with yaml
// tags that holds the defaults, as Vedette reads its own file.
func Decode(conf *confmap.Conf, into any) error {
	data, err := yaml.Marshal(conf.ToStringMap())
	if err != nil {
		return fmt.Errorf("read the component's configuration: %w", err)
	}
	err = config.Decode("configuration", data, into, config.Options{})
	var problems config.Problems
	if errors.As(err, &problems) {
		for i := range problems {
			problems[i].File, problems[i].Line = "", 0 // which are not the user's
		}
	}
	return err
}

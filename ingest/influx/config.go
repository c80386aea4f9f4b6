package influx

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Config says how lines become series.
type Config struct {
	// Separator stands between measurement and field in a metric's name.
	Separator string `yaml:"separator"`

	// DBLabel is the label that holds the database or bucket of a write; a tag of
	// that name wins. Empty leaves it out.
	DBLabel string `yaml:"db_label"`

	// SkipSingleField leaves the field out of the metric's name if it is the only
	// one of its line.
	SkipSingleField bool `yaml:"skip_single_field"`

	// Sanitize replaces characters other than letters, digits, "_" and, in names of
	// metrics, ":" by "_", in the names of metrics and labels. Without it they are
	// kept and have to be quoted in queries.
	Sanitize bool `yaml:"sanitize"`

	// Databases is the answer to SHOW DATABASES, for clients that look before they
	// write. Writes may name any database.
	Databases []string `yaml:"databases"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{Separator: "_", DBLabel: "db", Sanitize: true}
}

// Validate names every bad key.
func (c Config) Validate() error {
	var errs []error
	if !utf8.ValidString(c.Separator) {
		errs = append(errs, fmt.Errorf("separator: got %q, want UTF-8", c.Separator))
	}
	if !utf8.ValidString(c.DBLabel) || c.DBLabel == metricName {
		errs = append(errs, fmt.Errorf("db_label: got %q, want UTF-8 other than %s", c.DBLabel, metricName))
	}
	if slices.Contains(c.Databases, "") {
		errs = append(errs, errors.New("databases: want no empty name"))
	}
	return errors.Join(errs...)
}
